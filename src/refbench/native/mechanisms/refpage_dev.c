/* SPDX-License-Identifier: MIT */
/*
 * /dev/refpage: the device of a module. Each open file has one page, which every page of its
 * private mappings shows until the first store.
 */
#include "compat.h"
#include "reference_file.h"

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
enum { HANDLER = RB_REFERENCE_OWN };

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

static int refpage_dev_make(struct rb_context *ctx, const void *content, bool by_compat)
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

static int refpage_dev_fail(const struct rb_context *ctx, int err, struct rb_error *error)
{
	struct rlimit files;

	if (err == EMFILE && !getrlimit(RLIMIT_NOFILE, &files))
		return rb_fail_limit(error, (uint64_t)files.rlim_cur + 1, (uint64_t)files.rlim_cur,
				     "Raise it with ulimit -n.",
				     "The process has no file descriptor left for "
				     REFPAGE_DEV_PATH ".");
	if (err == ENOMEM)
		return rb_fail_map(error, ctx->page_size, err);
	if (err == EACCES || err == EPERM)
		return rb_fail(error, RB_UNSUPPORTED, err, "As root: chmod 666 " REFPAGE_DEV_PATH
			       ".", "The device " REFPAGE_DEV_PATH " cannot be opened: %s.",
			       strerror(err));
	return rb_fail(error, RB_UNSUPPORTED, err,
		       "Load the module that `refbench kernel build` makes beside a kernel; "
		       "-b qemu does so.",
		       "There is no device " REFPAGE_DEV_PATH " to set up: %s.", strerror(err));
}

static const struct rb_reference_file device_file = { refpage_dev_make, refpage_dev_fail };

static int refpage_dev_setup(struct rb_context *ctx, struct rb_error *error)
{
	const char *handler = rb_option_text(ctx, "handler");
	bool naive = handler && !strcmp(handler, "naive");

	if (handler && !naive && strcmp(handler, "safe") != 0)
		return rb_fail(error, RB_USAGE, 0, "Write naive or safe.",
			       "There is no fault handler '%.40s'.", handler);
	ctx->private_words[HANDLER] = naive ? REFPAGE_DEV_NAIVE : REFPAGE_DEV_SAFE;
	return rb_reference_open(ctx, &device_file, error);
}

static void *refpage_dev_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
			     struct rb_error *error)
{
	return rb_reference_map(ctx, &device_file, addr, size, flags, error);
}

static int refpage_dev_refer(struct rb_context *ctx, const void *content, unsigned int flags)
{
	return rb_reference_refer(ctx, &device_file, content, flags);
}

static const struct rb_mechanism refpage_dev_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "refpage-dev",
	.applies_pattern = true,
	.purge_restores = true,
	.setup = refpage_dev_setup,
	.map = refpage_dev_map,
	.held = rb_reference_held,
	.tamper = rb_reference_tamper,
	.refer = refpage_dev_refer,
	.teardown = rb_reference_teardown,
};
RB_REGISTER(refpage_dev_mechanism);
