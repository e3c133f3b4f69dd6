/* SPDX-License-Identifier: MIT */
#include "reference_file.h"

#include "compat.h"
#include "sealed.h"

#include <errno.h>
#include <unistd.h>

/* What is zeroed, as before setup(), is no descriptor. */
static void set_fd(struct rb_context *ctx, int fd)
{
	ctx->private_words[RB_REFERENCE_FD_PLUS_ONE] = (uint64_t)(int64_t)fd + 1;
}

static int get_fd(const struct rb_context *ctx)
{
	return (int)(int64_t)ctx->private_words[RB_REFERENCE_FD_PLUS_ONE] - 1;
}

int rb_reference_open(struct rb_context *ctx, const struct rb_reference_file *file,
		      struct rb_error *error)
{
	set_fd(ctx, file->make(ctx, ctx->pattern.page, false));
	return get_fd(ctx) < 0 ? file->fail(ctx, errno, error) : 0;
}

void *rb_reference_map(struct rb_context *ctx, const struct rb_reference_file *file, void *addr,
		       size_t size, unsigned int flags, struct rb_error *error)
{
	int populate = flags & RB_MAP_POPULATE ? MAP_POPULATE : 0;

	if (get_fd(ctx) < 0 && rb_reference_open(ctx, file, error))
		return NULL;
	if (ctx->private_words[RB_REFERENCE_BY_COMPAT]) {
		void *got = rb_compat_map(ctx, addr, size, populate, get_fd(ctx), 0);

		if (got != MAP_FAILED)
			return got;
		rb_fail_map(error, size, errno);
		return NULL;
	}
	return rb_map_new(ctx, addr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | populate,
			  get_fd(ctx), 0, error);
}

/* The content is copied. An offset has no part in it. */
int rb_reference_refer(struct rb_context *ctx, const struct rb_reference_file *file,
		       const void *content, unsigned int flags)
{
	int old = get_fd(ctx);
	int fd;

	if (flags & RB_REFER_SIGNED) {
		errno = EOPNOTSUPP;
		return -1;
	}
	fd = file->make(ctx, content, flags & RB_REFER_COMPAT);
	if (fd < 0)
		return -1;
	ctx->private_words[RB_REFERENCE_BY_COMPAT] = flags & RB_REFER_COMPAT;
	set_fd(ctx, fd);
	return old < 0 ? 0 : close(old);
}

/* The page itself, which is in no count of the process unless its entries are counted. */
uint64_t rb_reference_held(struct rb_context *ctx)
{
	return get_fd(ctx) < 0 ? 0 : ctx->page_size;
}

int rb_reference_tamper(struct rb_context *ctx, enum rb_tamper action)
{
	int fd = get_fd(ctx);
	int rc = rb_sealed_tamper(&fd, action);

	set_fd(ctx, fd);
	return rc;
}

void rb_reference_teardown(struct rb_context *ctx)
{
	if (get_fd(ctx) < 0)
		return;
	rb_count(&ctx->counters->syscalls);
	(void)close(get_fd(ctx));
	set_fd(ctx, -1);
}
