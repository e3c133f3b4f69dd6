/* SPDX-License-Identifier: MIT */
#include "userfault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1 /* Linux 5.11 */
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1 */
#endif

static int counted_ioctl(struct rb_context *ctx, int fd, unsigned long request, void *argument)
{
	rb_count(&ctx->counters->syscalls);
	return ioctl(fd, request, argument);
}

/* The device's file mode decides who may use it; the call asks for CAP_SYS_PTRACE or a sysctl. */
static int open_device(struct rb_context *ctx)
{
	int device, fd;

	rb_count(&ctx->counters->syscalls);
	device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (device < 0)
		return -1;
	rb_count(&ctx->counters->syscalls);
	fd = ioctl(device, USERFAULTFD_IOC_NEW, (unsigned long)(O_CLOEXEC | O_NONBLOCK));
	rb_userfault_close(ctx, &device);
	return fd;
}

static int open_any(struct rb_context *ctx)
{
	int fd = open_device(ctx);

	ctx->unprivileged = false;
	if (fd >= 0)
		return fd;
	rb_count(&ctx->counters->syscalls);
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 || errno != EPERM)
		return fd;
	ctx->unprivileged = true;
	rb_count(&ctx->counters->syscalls);
	return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
}

static int fail_open(struct rb_error *error, int err)
{
	if (err == ENOSYS)
		return rb_fail(error, RB_UNSUPPORTED, err, "It needs CONFIG_USERFAULTFD.",
			       "This kernel has no userfaultfd.");
	if (err == EPERM || err == EACCES || err == EINVAL)
		return rb_fail(error, RB_UNSUPPORTED, err,
			       "As root: sysctl vm.unprivileged_userfaultfd=1, or chmod 666 "
			       "/dev/userfaultfd; in a container, allow the call in its seccomp "
			       "profile.",
			       "This user may not open a userfaultfd: %s.", strerror(err));
	return rb_fail(error, RB_UNSUPPORTED, err, "Look up the error in userfaultfd(2).",
		       "A userfaultfd could not be opened: %s.", strerror(err));
}

int rb_userfault_open(struct rb_context *ctx, uint64_t features, struct rb_error *error)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = open_any(ctx);
	int err;

	if (fd < 0)
		return fail_open(error, errno);
	if (!counted_ioctl(ctx, fd, UFFDIO_API, &api))
		return fd;
	err = errno;
	rb_userfault_close(ctx, &fd);
	if (err == EPERM)
		return rb_fail(error, RB_UNSUPPORTED, err, "Run as root, or use atfork.",
			       "Fork events of a userfaultfd need CAP_SYS_PTRACE.");
	return rb_fail(error, RB_UNSUPPORTED, err, "It needs Linux 4.14.",
		       "This kernel's userfaultfd lacks a feature that is needed (features %#llx): "
		       "%s.",
		       (unsigned long long)features, strerror(err));
}

int rb_userfault_register(struct rb_context *ctx, int fd, void *addr, size_t size,
			  struct rb_error *error)
{
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)addr, .len = size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (!counted_ioctl(ctx, fd, UFFDIO_REGISTER, &range))
		return 0;
	return rb_fail(error, RB_UNSUPPORTED, errno, "Look up the error in ioctl_userfaultfd(2).",
		       "A userfaultfd did not take a range of %zu bytes: %s.", size,
		       strerror(errno));
}

int rb_userfault_register_all(struct rb_context *ctx, int fd, const struct rb_ranges *ranges,
			      struct rb_error *error)
{
	void *addr;
	size_t size;

	for (size_t i = 0; rb_ranges_at(ranges, i, &addr, &size); i++)
		if (rb_userfault_register(ctx, fd, addr, size, error))
			return -1;
	return 0;
}

int rb_userfault_copy(struct rb_context *ctx, int fd, uintptr_t addr)
{
	uintptr_t page = addr & ~(uintptr_t)(ctx->page_size - 1);
	struct uffdio_copy copy = {
		.dst = page,
		.src = (uintptr_t)ctx->pattern.page,
		.len = ctx->page_size,
	};
	struct uffdio_range range = { .start = page, .len = ctx->page_size };
	int err;

	if (!counted_ioctl(ctx, fd, UFFDIO_COPY, &copy))
		return 0;
	err = errno;
	/*
	 * A copy that failed wakes nobody. Woken, the thread faults again if there still is reason
	 * to. That goes for EAGAIN too: a fork may be waiting for us to read its event first.
	 */
	if (err != ESRCH)
		(void)counted_ioctl(ctx, fd, UFFDIO_WAKE, &range);
	return err == EEXIST ? 0 : err;
}

void *rb_userfault_map(struct rb_context *ctx, int fd, void *addr, size_t size, unsigned int flags,
		       struct rb_error *error)
{
	void *got = rb_map_anonymous(ctx, addr, size, flags, error);

	if (!got)
		return NULL;
	if (flags & RB_MAP_POPULATE)
		rb_fill(ctx, got, size);
	if (!rb_userfault_register(ctx, fd, got, size, error))
		return got;
	if (rb_munmap(ctx, got, size))
		rb_fail_map(error, size, errno);
	return NULL;
}

void rb_userfault_close(struct rb_context *ctx, int *fd)
{
	if (*fd < 0)
		return;
	rb_count(&ctx->counters->syscalls);
	(void)close(*fd);
	*fd = -1;
}

void rb_userfault_facts(struct rb_context *ctx, char *buf, size_t size)
{
	if (snprintf(buf, size, "uffd=%s", ctx->unprivileged ? "user-mode-only" : "full") < 0)
		buf[0] = '\0';
}
