/* SPDX-License-Identifier: MIT */
/* Files that the host brings, writes or reads; modules; disks and swap. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIECE 65536
#define MAX_TEXT 4096
#define SWAP_SIGNATURE "SWAPSPACE2"

static char piece[PIECE];

int answer(const char *what, bool done)
{
	if (done ? port_putf("done\n") : port_putf("failed %s %d\n", what, errno))
		return -1;
	return port_flush();
}

static bool write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t written = write(fd, data, size);

		if (written <= 0)
			return false;
		data += written;
		size -= (size_t)written;
	}
	return true;
}

int files_put(const char *path, mode_t mode, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool good = fd >= 0;
	int saved = errno;

	while (size) {
		size_t here = size < PIECE ? size : PIECE;

		if (port_take(piece, here))
			return -1;
		if (good && !write_all(fd, piece, here)) {
			good = false;
			saved = errno;
		}
		size -= here;
	}
	if (good && fchmod(fd, mode)) {
		good = false;
		saved = errno;
	}
	if (fd >= 0 && close(fd) && good) {
		good = false;
		saved = errno;
	}
	errno = saved;
	return answer("put", good);
}

/* One write(2), because a file under /proc or /sys takes its value whole. */
int files_write(const char *path, size_t size)
{
	char text[MAX_TEXT];
	ssize_t written = -1;
	int fd, saved;

	if (size > sizeof(text)) {
		errno = EFBIG;
		return port_skip(size) ? -1 : answer("write", false);
	}
	if (port_take(text, size))
		return -1;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return answer("open", false);
	written = write(fd, text, size);
	saved = errno;
	if (close(fd) && written >= 0) {
		saved = errno;
		written = -1;
	}
	errno = saved;
	return answer("write", written >= 0);
}

/* The host hears of an end that was cut: files that grow past this are not for reading whole. */
int files_read(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = 0;
	ssize_t got = 0;

	if (fd < 0)
		return answer("open", false);
	while (size < PIECE && (got = read(fd, piece + size, PIECE - size)) > 0)
		size += (size_t)got;
	if (size == PIECE) {
		errno = EFBIG;
		got = -1;
	}
	if (got < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return answer("read", false);
	}
	if (close(fd))
		return answer("close", false);
	if (port_putf("data %zu\n", size) || port_put(piece, size))
		return -1;
	return port_flush();
}

int files_module(const char *path, size_t size)
{
	char arguments[MAX_TEXT];
	long rc;
	int fd, saved;

	if (size >= sizeof(arguments)) {
		errno = E2BIG;
		return port_skip(size) ? -1 : answer("module", false);
	}
	if (port_take(arguments, size))
		return -1;
	arguments[size] = '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return answer("open", false);
	rc = syscall(SYS_finit_module, fd, arguments, 0);
	saved = errno;
	if (close(fd))
		return answer("close", false);
	errno = saved;
	return answer("finit_module", !rc);
}

/* The header that mkswap(8) writes; swapon(2) reads no more than these fields of it. */
static bool write_swap_header(int fd, uint32_t page)
{
	const uint32_t version = 1;
	off_t end = lseek(fd, 0, SEEK_END);
	uint32_t last = (uint32_t)(end / page - 1);
	char *header;
	bool good;

	if (end < 2 * (off_t)page) {
		errno = EINVAL;
		return false;
	}
	header = calloc(1, page);
	if (!header)
		return false;
	memcpy(header + 1024, &version, sizeof(version));
	memcpy(header + 1028, &last, sizeof(last));
	memcpy(header + page - strlen(SWAP_SIGNATURE), SWAP_SIGNATURE, strlen(SWAP_SIGNATURE));
	good = pwrite(fd, header, page, 0) == (ssize_t)page;
	free(header);
	return good;
}

int files_swap(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	bool good;
	int saved;

	if (fd < 0)
		return answer("open", false);
	good = write_swap_header(fd, (uint32_t)sysconf(_SC_PAGESIZE));
	saved = errno;
	if (close(fd))
		return answer("close", false);
	errno = saved;
	if (!good)
		return answer("header", false);
	return answer("swapon", !swapon(path, 0));
}

int files_mount(const char *kind, const char *device, const char *place)
{
	return answer("mount", !mount(device, place, kind, MS_NOSUID | MS_NODEV | MS_NOATIME, NULL));
}
