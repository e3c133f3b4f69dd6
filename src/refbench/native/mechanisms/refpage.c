/* SPDX-License-Identifier: MIT */
/*
 * refpage_create(2): the kernel keeps a page with the pattern behind a descriptor, and private
 * mappings of the descriptor show that page until the first store.
 *
 * No kernel has a number for the call by agreement. Ours hands the one that it was built with to
 * its first process, in the environment; the option nr gives it for any other.
 */
#include "compat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VARIABLE "REFBENCH_NR_REFPAGE_CREATE"
#define MOST_NUMBER 4095
#define REMEDY "Build a kernel that has it with `refbench kernel build`, and measure with -b qemu."

/* ctx->private_words */
enum { NUMBER, FD_PLUS_ONE, BY_COMPAT };

/* What is zeroed, as before setup(), is no descriptor. */
static void set_fd(struct rb_context *ctx, int fd)
{
	ctx->private_words[FD_PLUS_ONE] = (uint64_t)(int64_t)fd + 1;
}

static int get_fd(const struct rb_context *ctx)
{
	return (int)(int64_t)ctx->private_words[FD_PLUS_ONE] - 1;
}

/* The number of the system call, 0 if nothing tells. */
static int find_number(const struct rb_context *ctx, uint64_t *number, struct rb_error *error)
{
	const char *text = getenv(VARIABLE);
	char *end;

	if (rb_option_number(ctx, "nr", 0, number, error))
		return -1;
	if (*number || !text)
		return 0;
	errno = 0;
	*number = strtoull(text, &end, 10);
	if (errno || end == text || *end)
		*number = 0;
	return 0;
}

static int fail_create(const struct rb_context *ctx, int err, struct rb_error *error)
{
	struct rlimit files;

	if (err == ENOSYS)
		return rb_fail(error, RB_UNSUPPORTED, err, REMEDY,
			       "This kernel has no refpage_create(2), or not as call %llu.",
			       (unsigned long long)ctx->private_words[NUMBER]);
	if (err == EMFILE && !getrlimit(RLIMIT_NOFILE, &files))
		return rb_fail_limit(error, (uint64_t)files.rlim_cur + 1, (uint64_t)files.rlim_cur,
				     "Raise it with ulimit -n.",
				     "The process has no file descriptor left for a reference "
				     "page.");
	if (err == ENOMEM)
		return rb_fail_map(error, ctx->page_size, err);
	return rb_fail(error, RB_UNSUPPORTED, err, REMEDY, "refpage_create(2) failed: %s.",
		       strerror(err));
}

/* A descriptor, or -1 with errno set. A content shorter than the page is repeated. */
static int create_from(struct rb_context *ctx, const void *content, size_t size, bool by_compat)
{
	const uint32_t args[6] = { (uint32_t)(uintptr_t)content, (uint32_t)size };
	long fd;

	rb_count(&ctx->counters->syscalls);
	if (!by_compat)
		return (int)syscall((long)ctx->private_words[NUMBER], content, size, 0ul);
	fd = rb_compat_call((uint32_t)ctx->private_words[NUMBER], args);
	if (fd >= 0)
		return (int)fd;
	errno = (int)-fd;
	return -1;
}

static int create(struct rb_context *ctx, struct rb_error *error)
{
	size_t size = ctx->pattern.is_byte ? 1 : ctx->page_size;

	set_fd(ctx, create_from(ctx, ctx->pattern.page, size, false));
	return get_fd(ctx) < 0 ? fail_create(ctx, errno, error) : 0;
}

static int refpage_setup(struct rb_context *ctx, struct rb_error *error)
{
	uint64_t number;

	if (find_number(ctx, &number, error))
		return -1;
	if (!number || number > MOST_NUMBER)
		return rb_fail(error, RB_UNSUPPORTED, 0, REMEDY,
			       "Nothing tells which system call refpage_create(2) is here: there "
			       "is no " VARIABLE " in the environment.");
	ctx->private_words[NUMBER] = number;
	return create(ctx, error);
}

static void *refpage_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
			 struct rb_error *error)
{
	int populate = flags & RB_MAP_POPULATE ? MAP_POPULATE : 0;

	if (get_fd(ctx) < 0 && create(ctx, error))
		return NULL;
	if (ctx->private_words[BY_COMPAT]) {
		void *got = rb_compat_map(ctx, addr, size, populate, get_fd(ctx), 0);

		if (got != MAP_FAILED)
			return got;
		rb_fail_map(error, size, errno);
		return NULL;
	}
	return rb_map_new(ctx, addr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | populate,
			  get_fd(ctx), 0, error);
}

/* The page itself, which is in no count of the process. */
static uint64_t refpage_held(struct rb_context *ctx)
{
	return get_fd(ctx) < 0 ? 0 : ctx->page_size;
}

static int refpage_tamper(struct rb_context *ctx, enum rb_tamper action)
{
	int fd = get_fd(ctx);

	switch (action) {
	case RB_TAMPER_WRITE:
		return pwrite(fd, "!", 1, 0) == 1 ? 0 : -1;
	case RB_TAMPER_TRUNCATE:
		return ftruncate(fd, 0);
	case RB_TAMPER_UNMAP:
		set_fd(ctx, -1);
		return close(fd);
	}
	errno = EINVAL;
	return -1;
}

/* The call copies the content. An offset has no part in it. */
static int refpage_refer(struct rb_context *ctx, const void *content, unsigned int flags)
{
	int old = get_fd(ctx);
	int fd;

	if (flags & RB_REFER_SIGNED) {
		errno = EOPNOTSUPP;
		return -1;
	}
	fd = create_from(ctx, content, ctx->page_size, flags & RB_REFER_COMPAT);
	if (fd < 0)
		return -1;
	ctx->private_words[BY_COMPAT] = flags & RB_REFER_COMPAT;
	set_fd(ctx, fd);
	return old < 0 ? 0 : close(old);
}

static void refpage_teardown(struct rb_context *ctx)
{
	if (get_fd(ctx) < 0)
		return;
	rb_count(&ctx->counters->syscalls);
	(void)close(get_fd(ctx));
	set_fd(ctx, -1);
}

static const struct rb_mechanism refpage_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "refpage",
	.applies_pattern = true,
	.setup = refpage_setup,
	.map = refpage_map,
	.held = refpage_held,
	.tamper = refpage_tamper,
	.refer = refpage_refer,
	.teardown = refpage_teardown,
};
RB_REGISTER(refpage_mechanism);
