/* SPDX-License-Identifier: MIT */
#include "spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(struct rb_error *error, const char *what, const char *which)
{
	return rb_fail(error, RB_USAGE, 0, "", "%s: %.160s.", what, which);
}

/* "key=value,..." of the grammar; a backslash takes the next character as it is. */
static int read_options(struct rb_context *ctx, const char *from, char *to,
			struct rb_error *error)
{
	const char *whole = from;

	while (*from) {
		struct rb_option *option = &ctx->options[ctx->option_count];
		char *value = NULL;
		char *key = to;

		for (; *from && *from != ','; from++) {
			if (*from == '\\' && from[1])
				from++;
			else if (*from == '=' && !value) {
				*to++ = '\0';
				value = to;
				continue;
			}
			*to++ = *from;
		}
		*to++ = '\0';
		from += *from == ',';
		if (!*key)
			continue;
		if (ctx->option_count == RB_MAX_OPTIONS || rb_option_text(ctx, key))
			return fail(error, "Options are given twice, or too many", whole);
		option->key = key;
		option->value = value ? value : "yes";
		ctx->option_count++;
	}
	return 0;
}

const struct rb_mechanism *rb_spec_read(struct rb_context *ctx, const char *spec, char *room,
					struct rb_error *error)
{
	size_t length = strcspn(spec, ":");
	const struct rb_mechanism *found;

	/* A key without a value takes one byte more than its text. */
	if (strlen(spec) >= RB_SPEC_BYTES / 2) {
		(void)fail(error, "The mechanism is too long", spec);
		return NULL;
	}
	found = rb_mechanism_find(spec, length);
	if (!found) {
		(void)fail(error, "This program was built without the mechanism", spec);
		return NULL;
	}
	if (found->api_version != RB_API_VERSION) {
		(void)rb_fail(error, RB_UNSUPPORTED, 0, "Build it against this mechanism.h.",
			      "The mechanism %.60s has api_version %u, this program has %u.",
			      found->name, found->api_version, RB_API_VERSION);
		return NULL;
	}
	ctx->option_count = 0;
	return read_options(ctx, spec[length] ? spec + length + 1 : "", room, error) ? NULL : found;
}

/* At most a page, repeated; what does not fit at the end of the page is cut. */
static int fill_from_file(struct rb_context *ctx, const char *path, unsigned char *page,
			  struct rb_error *error)
{
	unsigned char one_more;
	size_t got = 0;
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && got < ctx->page_size &&
	       (n = read(fd, page + got, ctx->page_size - got)) > 0)
		got += (size_t)n;
	if (fd < 0 || n < 0)
		return fail(error, "The pattern file cannot be read", path);
	n = read(fd, &one_more, 1);
	if (close(fd) || n || !got)
		return fail(error, "The pattern file must hold a byte or more, a page at most",
			    path);
	for (size_t i = got; i < ctx->page_size; i++)
		page[i] = page[i - got];
	return 0;
}

static bool is_byte(const char *text, unsigned char *byte)
{
	unsigned long value;
	char *end;

	if (strncmp(text, "byte:", 5) || text[5] < '0' || text[5] > '9')
		return false;
	errno = 0;
	value = strtoul(text + 5, &end, 0);
	*byte = (unsigned char)value;
	return !errno && !*end && value <= 0xff;
}

int rb_pattern_read(struct rb_context *ctx, const char *text, const char *path,
		    unsigned char *page, struct rb_error *error)
{
	unsigned char byte;

	if (!strncmp(text, "tag:", 4) || strstr(text, "+tag:"))
		return rb_fail(error, RB_UNSUPPORTED, 0, "Use a pattern without memory tags.",
			       "The pattern %.80s has memory tags, which this program cannot set.",
			       text);
	if (is_byte(text, &byte))
		memset(page, byte, ctx->page_size);
	else if (strncmp(text, "file:", 5))
		return fail(error, "This is no pattern", text);
	else if (fill_from_file(ctx, path, page, error))
		return -1;
	ctx->pattern.page = page;
	ctx->pattern.byte = page[0];
	ctx->pattern.is_byte = !memcmp(page, page + 1, ctx->page_size - 1);
	return 0;
}
