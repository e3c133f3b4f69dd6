/* SPDX-License-Identifier: MIT */
/* System calls that read or write a region on the program's behalf. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PIECE (1u << 20)
#define TMPFS_MAGIC 0x01021994
#define RAMFS_MAGIC 0x858458f6

/* One way for the kernel to get at memory: a file if it takes one, and a page-aligned buffer. */
struct way {
	int fd;
	unsigned char *buffer;
	size_t size;
};

static const char unavailable[] = "unavailable: ";

static void refuse(struct observation *seen, int err, const char *detail)
{
	seen->ok = false;
	seen->err = err;
	detail_set(seen, "%s", detail);
}

/* An unlinked file that is written past the page cache. Proves itself on memory of our own. */
static int open_direct(struct observation *seen, struct way *way)
{
	struct statfs fs;
	ssize_t put;
	int err;

	way->fd = open(options.scratch, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	err = errno;
	if (way->fd >= 0 && !fstatfs(way->fd, &fs) &&
	    ((uint32_t)fs.f_type == TMPFS_MAGIC || (uint32_t)fs.f_type == RAMFS_MAGIC)) {
		refuse(seen, EINVAL, "unavailable: the scratch directory is in memory");
		return -1;
	}
	put = way->fd < 0 ? -1 : pwrite(way->fd, way->buffer, context.page_size, 0);
	if (put == (ssize_t)context.page_size)
		return 0;
	if (way->fd >= 0)
		err = put < 0 ? errno : EIO;
	seen->ok = false;
	seen->err = err;
	detail_set(seen, "%sno O_DIRECT in %.40s: %s", unavailable, options.scratch,
		   strerror(err));
	return -1;
}

static int open_way(const struct step *s, struct observation *seen, struct way *way)
{
	*way = (struct way){ .fd = -1, .size = s->length < PIECE ? s->length : PIECE };
	way->size = (way->size + context.page_size - 1) & ~(context.page_size - 1);
	if (!way->size)
		way->size = context.page_size;
	way->buffer = area_new(way->size, false);
	if (!way->buffer) {
		refuse(seen, ENOMEM, "unavailable: no memory for a buffer");
		return -1;
	}
	if (s->via == VIA_DIRECT)
		return open_direct(seen, way);
	if (s->via == VIA_WRITE || s->via == VIA_READ)
		way->fd = memfd_create("refbench-check", MFD_CLOEXEC);
	else if (s->via == VIA_PROCMEM)
		way->fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	else
		return 0;
	if (way->fd >= 0)
		return 0;
	seen->ok = false;
	seen->err = errno;
	detail_set(seen, "%s%s", unavailable, strerror(errno));
	return -1;
}

static void close_way(struct way *way)
{
	if ((way->fd >= 0 && close(way->fd)) || (way->buffer && munmap(way->buffer, way->size)))
		_exit(1);
}

/* The kernel reads `count` bytes of the region; what it read ends in the buffer. */
static ssize_t read_piece(const struct way *way, uint8_t via, unsigned char *from, size_t count)
{
	struct iovec local = { way->buffer, count }, remote = { from, count };
	ssize_t put;

	switch (via) {
	case VIA_VMREADV:
		return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	case VIA_PROCMEM:
		return pread(way->fd, way->buffer, count, (off_t)(uintptr_t)from);
	default:
		put = pwrite(way->fd, from, count, 0);
		if (put <= 0)
			return put;
		/* The buffer is aligned, so that O_DIRECT may read past the end of a short piece. */
		return pread(way->fd, way->buffer, way->size, 0) < put ? -1 : put;
	}
}

static ssize_t write_piece(const struct way *way, uint8_t via, unsigned char *to, size_t count)
{
	struct iovec local = { way->buffer, count }, remote = { to, count };

	switch (via) {
	case VIA_VMWRITEV:
		return process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	case VIA_PROCMEM:
		return pwrite(way->fd, way->buffer, count, (off_t)(uintptr_t)to);
	default:
		return pread(way->fd, to, count, 0);
	}
}

/* The whole range in pieces, until it is done or the kernel refuses. */
static void pass(struct check *check, const struct way *way, bool reads)
{
	const struct step *s = check->step;
	unsigned char *base = program.regions[s->region].base;
	uint64_t at = s->offset, end = s->offset + s->length;

	while (at < end) {
		size_t count = end - at < way->size ? (size_t)(end - at) : way->size;
		ssize_t done = reads ? read_piece(way, s->via, base + at, count)
				     : write_piece(way, s->via, base + at, count);

		if (done <= 0) {
			check->seen.ok = false;
			check->seen.err = done ? errno : EFAULT;
			if (!check->seen.errors)
				check->seen.offset = at;
			return;
		}
		if (reads)
			check_bytes(check, at, way->buffer, (size_t)done);
		at += (uint64_t)done;
	}
}

int kernel_reads_run(const struct step *s)
{
	struct check check = { s, observation_of(s) };
	struct way way;

	if (s->via == VIA_CORE) {
		core_read(&check);
		return observe(&check.seen);
	}
	if (!open_way(s, &check.seen, &way))
		pass(&check, &way, true);
	close_way(&way);
	return observe(&check.seen);
}

int kernel_writes_run(const struct step *s)
{
	struct check check = { s, observation_of(s) };
	struct way way;

	if (!open_way(s, &check.seen, &way)) {
		memset(way.buffer, s->value, way.size);
		if (s->via == VIA_READ &&
		    pwrite(way.fd, way.buffer, way.size, 0) != (ssize_t)way.size)
			refuse(&check.seen, errno, "unavailable: no memory for a file");
		else
			pass(&check, &way, false);
	}
	close_way(&way);
	return observe(&check.seen);
}
