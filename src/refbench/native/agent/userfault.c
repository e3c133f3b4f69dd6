/* SPDX-License-Identifier: MIT */
/*
 * `userfault`: somebody else than the mechanism asks for the missing pages of a range, as a
 * checkpointer or a garbage collector does.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1 /* Linux 5.11 */
#endif

/* A fault of the kernel at a missing page fails at once: nobody has to read messages. */
static int open_userfault(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_SIGBUS };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	int err;

	if (fd < 0 && errno == EINVAL)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0 || !ioctl(fd, UFFDIO_API, &api))
		return fd;
	err = errno;
	if (!close(fd))
		errno = err;
	return -1;
}

/* Whether the kernel tells the userfaultfd of the page, instead of reading it. */
static bool is_missing(int sink, const unsigned char *page)
{
	return pwrite(sink, page, 1, 0) < 0 && errno == EFAULT;
}

static int supply(int fd, unsigned char *page, const unsigned char *content)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)page,
		.src = (uintptr_t)content,
		.len = context.page_size,
	};

	return ioctl(fd, UFFDIO_COPY, &copy);
}

static int refuse(struct observation *seen, const char *detail)
{
	seen->ok = false;
	seen->err = errno;
	detail_set(seen, "%s", detail);
	return -1;
}

static int serve(const struct step *s, struct observation *seen, int fd, int sink)
{
	unsigned char *at = program.regions[s->region].base + s->offset;
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)at, .len = s->length },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	unsigned char *content = area_new(context.page_size, false);
	int rc = 0;

	if (!content)
		return refuse(seen, "unavailable: no memory for a page");
	memset(content, s->value, context.page_size);
	if (ioctl(fd, UFFDIO_REGISTER, &range))
		rc = refuse(seen, "UFFDIO_REGISTER");
	for (uint64_t done = 0; !rc && done < s->length; done += context.page_size)
		if (is_missing(sink, at + done) && supply(fd, at + done, content))
			rc = refuse(seen, "UFFDIO_COPY");
	return munmap(content, context.page_size) ? -1 : rc;
}

int userfault_run(const struct step *s)
{
	struct observation seen = observation_of(s);
	int fd = open_userfault();
	int sink = fd < 0 ? -1 : memfd_create("refbench-check", MFD_CLOEXEC);

	if (fd < 0)
		(void)refuse(&seen, "unavailable: no userfaultfd for this user");
	else if (sink < 0)
		(void)refuse(&seen, "unavailable: no memfd");
	else
		(void)serve(s, &seen, fd, sink);
	/* What is registered with a descriptor is so until it is closed. */
	if ((fd >= 0 && close(fd)) || (sink >= 0 && close(sink)))
		_exit(1);
	return observe(&seen);
}
