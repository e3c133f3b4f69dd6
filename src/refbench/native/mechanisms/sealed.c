/* SPDX-License-Identifier: MIT */
#include "sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif
#define HUGE_SHIFT 26 /* log2 of the huge page's size sits here in memfd_create(2)'s flags */

#define PAGES_A_WRITE 256 /* well below IOV_MAX */

/*
 * Not executable: the kernel puts the first page of a mapping of an executable file into a core
 * dump, written or not, and older kernels make every memfd executable.
 */
static int open_file(struct rb_context *ctx, const char *name, uint64_t huge)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd;

	if (huge)
		flags |= MFD_HUGETLB | (unsigned int)__builtin_ctzll(huge) << HUGE_SHIFT;
	rb_count(&ctx->counters->syscalls);
	fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) {
		rb_count(&ctx->counters->syscalls);
		fd = memfd_create(name, flags);
		if (fd < 0)
			return -1;
		rb_count(&ctx->counters->syscalls);
		if (fchmod(fd, S_IRUSR | S_IWUSR)) {
			rb_count(&ctx->counters->syscalls);
			(void)close(fd);
			return -1;
		}
	}
	return fd;
}

/* write(2) reports what a store would turn into SIGBUS: no space, no memory. */
static int write_pages(struct rb_context *ctx, int fd, size_t size)
{
	struct iovec parts[PAGES_A_WRITE];
	size_t done = 0;

	for (size_t i = 0; i < PAGES_A_WRITE; i++) {
		parts[i].iov_base = (void *)(uintptr_t)ctx->pattern.page;
		parts[i].iov_len = ctx->page_size;
	}
	while (done < size) {
		size_t pages = (size - done) / ctx->page_size;
		ssize_t got;

		if (pages > PAGES_A_WRITE)
			pages = PAGES_A_WRITE;
		rb_count(&ctx->counters->syscalls);
		got = pwritev(fd, parts, (int)pages, (off_t)done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		/* A short write may end inside a page; begin that page again. */
		got -= got % (ssize_t)ctx->page_size;
		if (!got) {
			errno = ENOSPC;
			return -1;
		}
		done += (size_t)got;
	}
	return 0;
}

/* hugetlbfs has no write(2); its mmap(2) reserves the pages, so that the stores cannot fail. */
static int store_pages(struct rb_context *ctx, int fd, size_t size)
{
	void *view = rb_mmap(ctx, NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (view == MAP_FAILED)
		return -1;
	rb_fill(ctx, view, size);
	return rb_munmap(ctx, view, size);
}

static int fill_and_seal(struct rb_context *ctx, int fd, size_t size, uint64_t huge)
{
	rb_count(&ctx->counters->syscalls);
	if (ftruncate(fd, (off_t)size))
		return -1;
	if (huge ? store_pages(ctx, fd, size) : write_pages(ctx, fd, size))
		return -1;
	rb_count(&ctx->counters->syscalls);
	return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

static int fail_open(struct rb_error *error, int err)
{
	struct rlimit files;

	if (err == EMFILE && !getrlimit(RLIMIT_NOFILE, &files))
		return rb_fail_limit(error, (uint64_t)files.rlim_cur + 1, (uint64_t)files.rlim_cur,
				     "Raise it with ulimit -n.",
				     "The process has no file descriptor left for a memfd.");
	return rb_fail(error, RB_UNSUPPORTED, err,
		       "It needs Linux 3.17 with CONFIG_MEMFD_CREATE, and no filter on the call.",
		       "memfd_create(2) failed: %s.", strerror(err));
}

int rb_sealed_file(struct rb_context *ctx, const char *name, size_t size, uint64_t huge,
		   struct rb_error *error)
{
	int fd = open_file(ctx, name, huge);
	int err;

	if (fd < 0)
		return fail_open(error, errno);
	if (!fill_and_seal(ctx, fd, size, huge))
		return fd;
	err = errno;
	rb_count(&ctx->counters->syscalls);
	(void)close(fd);
	if (err == ENOMEM || err == ENOSPC)
		return rb_fail_map(error, size, ENOMEM);
	return rb_fail(error, RB_UNSUPPORTED, err, "It needs a kernel whose memfds can be sealed.",
		       "A memfd of %zu bytes could not be filled and sealed: %s.", size,
		       strerror(err));
}

uint64_t rb_sealed_bytes(int fd)
{
	struct stat found;

	if (fd < 0 || fstat(fd, &found))
		return 0;
	return (uint64_t)found.st_blocks * 512;
}

int rb_sealed_tamper(int *fd, enum rb_tamper action)
{
	int old = *fd;

	switch (action) {
	case RB_TAMPER_WRITE:
		return pwrite(old, "!", 1, 0) == 1 ? 0 : -1;
	case RB_TAMPER_TRUNCATE:
		return ftruncate(old, 0);
	case RB_TAMPER_UNMAP:
		*fd = -1;
		return close(old);
	}
	errno = EINVAL;
	return -1;
}
