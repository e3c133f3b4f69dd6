/* SPDX-License-Identifier: MIT */
/*
 * First touches, by a userfaultfd on the backing memory that another process serves. A first
 * store gets a page of zeroes; a first load gets one, too, write-protected, so that the first
 * store behind it is seen as well.
 */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEEDED (UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_THREAD_ID)
#define MESSAGES 32

static int faults;
static uint64_t page_size;
static void *zeroes;

/* Faults that system calls take have to be served as well, which not everybody may. */
static int open_any(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	int device;

	if (fd >= 0 || errno != EPERM)
		return fd;
	device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (device < 0) {
		errno = EPERM;
		return -1;
	}
	fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (close(device))
		return -1;
	return fd;
}

int record_faults_open(struct rb_error *error)
{
	struct uffdio_api api = { .api = UFFD_API, .features = NEEDED };
	int fd = open_any();

	if (fd < 0 && errno == EPERM)
		return rb_fail(error, RB_UNSUPPORTED, EPERM,
			       "Record as root; or, as root: sysctl vm.unprivileged_userfaultfd=1, "
			       "or chmod 666 /dev/userfaultfd.",
			       "This user may not watch first touches: a userfaultfd that sees "
			       "system calls' own is not permitted.");
	if (fd < 0)
		return rb_fail(error, RB_UNSUPPORTED, errno,
			       "Use a kernel with CONFIG_USERFAULTFD.",
			       "A userfaultfd could not be opened: %s.", strerror(errno));
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	rb_fail(error, RB_UNSUPPORTED, errno, "Record on Linux 5.7 or later, on x86-64 or arm64.",
		"This kernel's userfaultfd does not protect from stores, which tells loads from "
		"stores.");
	close(fd);
	return -1;
}

int record_faults_begin(const struct record_setup *setup)
{
	faults = setup->faults;
	page_size = setup->page_size;
	zeroes = mmap(NULL, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return zeroes == MAP_FAILED ? -1 : 0;
}

int record_faults_watch(uint64_t address, uint64_t size)
{
	struct uffdio_register range = {
		.range = { .start = address, .len = size },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};

	return ioctl(faults, UFFDIO_REGISTER, &range);
}

/* 1: the page is there now; 0: somebody else brought it; -1: the program is gone, or the range. */
static int bring(uint64_t at, bool protect)
{
	for (;;) {
		struct uffdio_copy copy = {
			.dst = at, .src = (uintptr_t)zeroes, .len = page_size,
			.mode = protect ? UFFDIO_COPY_MODE_WP : 0,
		};
		struct uffdio_range range = { at, page_size };

		if (!ioctl(faults, UFFDIO_COPY, &copy))
			return 1;
		if (errno == EEXIST)
			return ioctl(faults, UFFDIO_WAKE, &range) ? -1 : 0;
		if (errno != EAGAIN && errno != EINTR)
			return -1;
	}
}

static int release(uint64_t at)
{
	struct uffdio_writeprotect store = { .range = { at, page_size }, .mode = 0 };

	while (ioctl(faults, UFFDIO_WRITEPROTECT, &store))
		if (errno != EAGAIN && errno != EINTR)
			return -1;
	return 1;
}

static int serve(const struct uffd_msg *message)
{
	uint64_t flags = message->arg.pagefault.flags;
	uint64_t at = message->arg.pagefault.address & ~(page_size - 1);
	bool store = flags & (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_WRITE);
	struct record_event event = {
		.address = at, .length = page_size, .thread = message->arg.pagefault.feat.ptid,
		.kind = store ? K_WRITE : K_READ,
	};
	int done = flags & UFFD_PAGEFAULT_FLAG_WP ? release(at) : bring(at, !store);

	/* A range that is gone, or the program: whoever waited does not any more. */
	if (done <= 0)
		return 0;
	return record_file_put(&event);
}

int record_faults_serve(void (*before)(void))
{
	struct uffd_msg messages[MESSAGES];
	ssize_t got = read(faults, messages, sizeof(messages));

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	for (size_t i = 0; i < (size_t)got / sizeof(messages[0]); i++) {
		before();
		if (messages[i].event == UFFD_EVENT_PAGEFAULT && serve(&messages[i]))
			return -1;
	}
	return got == (ssize_t)sizeof(messages);
}
