/* SPDX-License-Identifier: MIT */
/* The command line: options, the mechanism's spec and the pattern. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options options = { .pattern = "byte:0xAA", .scratch = "/tmp" };
const struct rb_mechanism *mechanism;
struct rb_context context;

#define SPEC_BYTES 1024

static int fail(struct rb_error *error, const char *what, const char *about)
{
	return rb_fail(error, RB_USAGE, 0, "docs/program-format.md describes the agent's arguments.",
		       "%s: %.120s.", what, about);
}

static int number(const char *text, uint64_t most, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 0);
	return errno || end == text || *end || *text == '-' || *out > most ? -1 : 0;
}

/* One more KEY=VALUE. */
static int keep(const char **list, size_t most, size_t *count, const char *value,
		struct rb_error *error)
{
	if (*count == most || *value == '=' || !strchr(value, '='))
		return fail(error, "This is no NAME=VALUE, or one too many", value);
	list[(*count)++] = value;
	return 0;
}

static int take(const char *name, const char *value, struct rb_error *error)
{
	static const struct {
		const char *name;
		const char **to;
	} texts[] = {
		{ "--program", &options.program }, { "--mechanism", &options.mechanism },
		{ "--pattern", &options.pattern }, { "--pattern-file", &options.pattern_file },
		{ "--cgroup-dir", &options.cgroup_dir }, { "--scratch", &options.scratch },
		{ "--loader", &options.outside.loader },
		{ "--libraries", &options.outside.libraries },
	};
	struct outside *o = &options.outside;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (!strcmp(name, texts[i].name)) {
			*texts[i].to = value;
			return 0;
		}
	}
	if (!strcmp(name, "--file"))
		return keep(o->files, MAX_FILES, &o->file_count, value, error);
	if (!strcmp(name, "--environment"))
		return keep(o->environment, MAX_VARIABLES, &o->variable_count, value, error);
	if (!strcmp(name, "--iterations"))
		return number(value, 1u << 30, &options.iterations) ?
		       fail(error, "The number of iterations is none", value) : 0;
	if (!strcmp(name, "--thp") && (!strcmp(value, "on") || !strcmp(value, "off"))) {
		options.thp = !strcmp(value, "on");
		return 0;
	}
	if (!strcmp(name, "--cgroup") && (!strcmp(value, "v1") || !strcmp(value, "v2"))) {
		options.cgroup = value[1] - '0';
		return 0;
	}
	return fail(error, "This argument is unknown, or its value is", name);
}

int arguments_read(int argc, char **argv, struct rb_error *error)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--probe"))
			options.probe = true;
		else if (!strcmp(argv[i], "--api"))
			options.api = true;
		else if (i + 1 == argc)
			return fail(error, "This argument is unknown or has no value", argv[i]);
		else if (take(argv[i], argv[i + 1], error))
			return -1;
		else
			i++;
	}
	if (options.cgroup && !options.cgroup_dir)
		return fail(error, "An argument is missing", "--cgroup-dir");
	if (!options.cgroup_dir)
		options.cgroup = 0;
	if (options.probe || options.api)
		return 0;
	if (!options.program)
		return fail(error, "An argument is missing", "--program");
	if (!options.mechanism)
		return fail(error, "An argument is missing", "--mechanism");
	return 0;
}

/* "key=value,..." of the grammar; a backslash takes the next character as it is. */
static int read_options(const char *from, char *to, struct rb_error *error)
{
	const char *whole = from;

	while (*from) {
		struct rb_option *option = &context.options[context.option_count];
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
		if (context.option_count == RB_MAX_OPTIONS || rb_option_text(&context, key))
			return fail(error, "Options are given twice, or too many", whole);
		option->key = key;
		option->value = value ? value : "yes";
		context.option_count++;
	}
	return 0;
}

int mechanism_choose(const char *spec, struct rb_error *error)
{
	static char room[SPEC_BYTES];
	size_t length = strcspn(spec, ":");

	if (strlen(spec) >= sizeof(room) / 2)
		return fail(error, "The mechanism is too long", spec);
	mechanism = rb_mechanism_find(spec, length);
	if (!mechanism)
		return fail(error, "The agent was built without this mechanism", spec);
	if (mechanism->api_version != RB_API_VERSION)
		return rb_fail(error, RB_UNSUPPORTED, 0, "Build it against this mechanism.h.",
			       "The mechanism %.60s has api_version %u, this agent has %u.",
			       mechanism->name, mechanism->api_version, RB_API_VERSION);
	context.option_count = 0;
	return read_options(spec[length] ? spec + length + 1 : "", room, error);
}

/* At most a page, repeated; what does not fit at the end of the page is cut. */
static int fill_from_file(unsigned char *page, struct rb_error *error)
{
	const char *path = options.pattern_file;
	unsigned char one_more;
	size_t got = 0;
	ssize_t n = 0;
	int fd;

	if (!path)
		return fail(error, "An argument is missing", "--pattern-file");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && got < context.page_size &&
	       (n = read(fd, page + got, context.page_size - got)) > 0)
		got += (size_t)n;
	if (fd < 0 || n < 0)
		return fail(error, "The pattern file cannot be read", path);
	n = read(fd, &one_more, 1);
	if (close(fd) || n || !got)
		return fail(error, "The pattern file must hold a byte or more, a page at most",
			    path);
	for (size_t i = got; i < context.page_size; i++)
		page[i] = page[i - got];
	return 0;
}

int pattern_make(struct rb_error *error)
{
	unsigned char *page = area_new(context.page_size, false);
	const char *text = options.pattern;
	uint64_t byte;

	if (!page)
		return rb_fail(error, RB_UNSUPPORTED, errno, "", "There is no memory for a page.");
	if (!strncmp(text, "tag:", 4) || strstr(text, "+tag:"))
		return rb_fail(error, RB_UNSUPPORTED, 0, "Use a pattern without memory tags.",
			       "The pattern %.80s has memory tags, which this agent cannot set.",
			       text);
	if (!strncmp(text, "byte:", 5) && !number(text + 5, 0xff, &byte))
		memset(page, (int)byte, context.page_size);
	else if (strncmp(text, "file:", 5))
		return fail(error, "This is no pattern", text);
	else if (fill_from_file(page, error))
		return -1;
	context.pattern.page = page;
	context.pattern.byte = page[0];
	context.pattern.is_byte = !memcmp(page, page + 1, context.page_size - 1);
	return 0;
}
