/* SPDX-License-Identifier: MIT */
/*
 * /dev/refpage: the device of a module. Each open file has one page, which every page of its
 * private mappings shows until the first store.
 */
#include "compat.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* The module's interface: backends/refbench_qemu/kernel/modules/refpage/refpage_dev.h. */
#define REFPAGE_DEV_PATH "/dev/refpage"
#define REFPAGE_DEV_NAIVE 0
#define REFPAGE_DEV_SAFE 1
#define REFPAGE_DEV_SET_HANDLER _IOW('R', 0x70, uint32_t)

#define COMPAT_WRITE 4 /* of arch/x86/entry/syscalls/syscall_32.tbl */

/* ctx->private_words */
enum { FD_PLUS_ONE, HANDLER, BY_COMPAT };

/* What is zeroed, as before setup(), is no descriptor. */
static void set_fd(struct rb_context *ctx, int fd)
{
	ctx->private_words[FD_PLUS_ONE] = (uint64_t)(int64_t)fd + 1;
}

static int get_fd(const struct rb_context *ctx)
{
	return (int)(int64_t)ctx->private_words[FD_PLUS_ONE] - 1;
}

static long write_page(struct rb_context *ctx, int fd, const void *content, bool by_compat)
{
	const uint32_t args[6] = { (uint32_t)fd, (uint32_t)(uintptr_t)content,
				   (uint32_t)ctx->page_size };
	long put;

	rb_count(&ctx->counters->syscalls);
	if (!by_compat)
		return write(fd, content, ctx->page_size);
	put = rb_compat_call(COMPAT_WRITE, args);
	if (put >= 0)
		return put;
	errno = (int)-put;
	return -1;
}

/* A file of the device with this content, or -1 with errno set. */
static int open_with(struct rb_context *ctx, const void *content, bool by_compat)
{
	uint32_t handler = (uint32_t)ctx->private_words[HANDLER];
	int err;
	int fd;

	rb_count(&ctx->counters->syscalls);
	fd = open(REFPAGE_DEV_PATH, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	rb_count(&ctx->counters->syscalls);
	errno = EIO;
	if (!ioctl(fd, REFPAGE_DEV_SET_HANDLER, &handler) &&
	    write_page(ctx, fd, content, by_compat) == (long)ctx->page_size)
		return fd;
	err = errno;
	(void)close(fd);
	errno = err;
	return -1;
}

static int fail_open(size_t size, int err, struct rb_error *error)
{
	struct rlimit files;

	if (err == EMFILE && !getrlimit(RLIMIT_NOFILE, &files))
		return rb_fail_limit(error, (uint64_t)files.rlim_cur + 1, (uint64_t)files.rlim_cur,
				     "Raise it with ulimit -n.",
				     "The process has no file descriptor left for "
				     REFPAGE_DEV_PATH ".");
	if (err == ENOMEM)
		return rb_fail_map(error, size, err);
	if (err == EACCES || err == EPERM)
		return rb_fail(error, RB_UNSUPPORTED, err, "As root: chmod 666 " REFPAGE_DEV_PATH
			       ".", "The device " REFPAGE_DEV_PATH " cannot be opened: %s.",
			       strerror(err));
	return rb_fail(error, RB_UNSUPPORTED, err,
		       "Load the module that `refbench kernel build` makes beside a kernel; "
		       "-b qemu does so.",
		       "There is no device " REFPAGE_DEV_PATH " to set up: %s.", strerror(err));
}

static int open_device(struct rb_context *ctx, struct rb_error *error)
{
	set_fd(ctx, open_with(ctx, ctx->pattern.page, false));
	return get_fd(ctx) < 0 ? fail_open(ctx->page_size, errno, error) : 0;
}

static int refpage_dev_setup(struct rb_context *ctx, struct rb_error *error)
{
	const char *handler = rb_option_text(ctx, "handler");
	bool naive = handler && !strcmp(handler, "naive");

	if (handler && !naive && strcmp(handler, "safe") != 0)
		return rb_fail(error, RB_USAGE, 0, "Write naive or safe.",
			       "There is no fault handler '%.40s'.", handler);
	ctx->private_words[HANDLER] = naive ? REFPAGE_DEV_NAIVE : REFPAGE_DEV_SAFE;
	return open_device(ctx, error);
}

static void *refpage_dev_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
			     struct rb_error *error)
{
	int populate = flags & RB_MAP_POPULATE ? MAP_POPULATE : 0;

	if (get_fd(ctx) < 0 && open_device(ctx, error))
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

/* The device's page. RSS shows it under the naive handler alone, once for each entry. */
static uint64_t refpage_dev_held(struct rb_context *ctx)
{
	return get_fd(ctx) < 0 ? 0 : ctx->page_size;
}

static int refpage_dev_tamper(struct rb_context *ctx, enum rb_tamper action)
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

/* write(2) copies the content. An offset has no part in it. */
static int refpage_dev_refer(struct rb_context *ctx, const void *content, unsigned int flags)
{
	int old = get_fd(ctx);
	int fd;

	if (flags & RB_REFER_SIGNED) {
		errno = EOPNOTSUPP;
		return -1;
	}
	fd = open_with(ctx, content, flags & RB_REFER_COMPAT);
	if (fd < 0)
		return -1;
	ctx->private_words[BY_COMPAT] = flags & RB_REFER_COMPAT;
	set_fd(ctx, fd);
	return old < 0 ? 0 : close(old);
}

static void refpage_dev_teardown(struct rb_context *ctx)
{
	if (get_fd(ctx) < 0)
		return;
	rb_count(&ctx->counters->syscalls);
	(void)close(get_fd(ctx));
	set_fd(ctx, -1);
}

static const struct rb_mechanism refpage_dev_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "refpage-dev",
	.applies_pattern = true,
	.setup = refpage_dev_setup,
	.map = refpage_dev_map,
	.held = refpage_dev_held,
	.tamper = refpage_dev_tamper,
	.refer = refpage_dev_refer,
	.teardown = refpage_dev_teardown,
};
RB_REGISTER(refpage_dev_mechanism);
