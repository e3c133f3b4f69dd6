// SPDX-License-Identifier: GPL-2.0-only
/*
 * device naive|safe: what /dev/refpage promises. TAP; exit status 0 if all is so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "refpage_dev.h"

#define PAGES 64
#define FAR ((off_t)1 << 40)

static size_t page_size;
static __u32 handler;
static int number, failures;

static void check(bool right, const char *what)
{
	printf("%s %d - %s\n", right ? "ok" : "not ok", ++number, what);
	failures += !right;
}

static void bail_out(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(2);
}

/* An open device whose page is full of one byte. */
static int filled(int byte)
{
	int fd = open(REFPAGE_DEV_PATH, O_RDWR | O_CLOEXEC);
	char *page = malloc(page_size);

	if (fd < 0 || !page)
		bail_out(REFPAGE_DEV_PATH);
	memset(page, byte, page_size);
	if (ioctl(fd, REFPAGE_DEV_SET_HANDLER, &handler) != 0 ||
	    write(fd, page, page_size) != (ssize_t)page_size)
		bail_out("a page of content");
	free(page);
	return fd;
}

static char *mapped(int fd, int prot, int flags, off_t offset)
{
	char *at = mmap(NULL, PAGES * page_size, prot, MAP_PRIVATE | flags, fd,
			offset);

	if (at == MAP_FAILED)
		bail_out("mmap");
	return at;
}

static bool full_of(const char *area, size_t pages, int byte)
{
	for (size_t i = 0; i < pages * page_size; i++)
		if (area[i] != byte)
			return false;
	return true;
}

/* Of the mapping that begins there, in KiB, as smaps has it. */
static long smaps(const char *area, const char *field)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	char line[512], start[32];
	bool here = false;
	long value = -1;

	if (!file)
		bail_out("smaps");
	snprintf(start, sizeof(start), "%lx-", (unsigned long)area);
	while (value < 0 && fgets(line, sizeof(line), file)) {
		if (strncmp(line, start, strlen(start)) == 0)
			here = true;
		if (here && strncmp(line, field, strlen(field)) == 0)
			value = atol(line + strlen(field));
	}
	if (fclose(file) != 0)
		bail_out("smaps");
	return value;
}

static void before_the_seal(void)
{
	int fd = filled(0x11);
	__u32 unknown = 7;
	char bytes[16];
	char *area;

	memset(bytes, 0x22, sizeof(bytes));
	check(write(fd, bytes, 1) == -1 && errno == ENOSPC,
	      "nothing is written behind the page");
	check(pwrite(fd, bytes, sizeof(bytes), page_size - 4) == 4,
	      "a write is cut off at the page's end");
	check(ioctl(fd, REFPAGE_DEV_SET_HANDLER, &unknown) == -1 &&
		      errno == EINVAL,
	      "an unknown handler is refused");
	check(ioctl(fd, _IO('R', 0x71)) == -1 && errno == ENOTTY,
	      "an unknown ioctl is refused");
	check(mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd, 0) ==
			      MAP_FAILED &&
		      errno == EINVAL,
	      "a shared mapping is refused");
	check(pwrite(fd, bytes, 1, 0) == 1, "and does not seal");

	area = mapped(fd, PROT_READ, 0, 0);
	check(area[0] == 0x22 && area[1] == 0x11 &&
		      area[page_size - 1] == 0x22 &&
		      area[page_size - 5] == 0x11,
	      "the content is what was written");
	check(pwrite(fd, bytes, 1, 0) == -1 && errno == EPERM,
	      "a mapping seals the content");
	check(ioctl(fd, REFPAGE_DEV_SET_HANDLER, &handler) == -1 &&
		      errno == EPERM,
	      "a mapping seals the handler");
}

static void contents(void)
{
	int one = filled(0x33), other = filled(0x44);
	char *a = mapped(one, PROT_READ | PROT_WRITE, 0, 0);
	char *far = mapped(one, PROT_READ | PROT_WRITE, 0, FAR);
	char *b = mapped(other, PROT_READ, 0, 0);

	check(close(one) == 0 && close(other) == 0 &&
		      full_of(a, PAGES, 0x33) && full_of(b, PAGES, 0x44),
	      "each file has its own page, and mappings keep it");
	check(full_of(far, PAGES, 0x33), "any offset shows it");
	check(smaps(b, "Rss:") ==
		      (handler == REFPAGE_DEV_NAIVE ?
			       (long)(PAGES * page_size / 1024) :
			       0),
	      handler == REFPAGE_DEV_NAIVE ? "clean pages are in the RSS" :
					     "clean pages are not in the RSS");

	a[0] = 1;
	far[page_size + 7] = 1;
	check(a[0] == 1 && a[1] == 0x33 && full_of(a + page_size, 2, 0x33) &&
		      full_of(far, 1, 0x33) && far[page_size + 6] == 0x33,
	      "a store changes its own page alone");
	check(madvise(a, page_size, MADV_DONTNEED) == 0 && full_of(a, 1, 0x33),
	      "MADV_DONTNEED brings the content back");
}

static void populating(void)
{
	int fd = filled(0x55);
	char *written = mapped(fd, PROT_READ | PROT_WRITE, MAP_POPULATE, 0);
	char *read_only = mapped(fd, PROT_READ, MAP_POPULATE, FAR);
	char *locked = mapped(fd, PROT_READ | PROT_WRITE, 0, 2 * FAR);
	char *advised = mapped(fd, PROT_READ | PROT_WRITE, 0, 3 * FAR);

	check(smaps(written, "Private_Dirty:") ==
			      (long)(PAGES * page_size / 1024) &&
		      full_of(written, PAGES, 0x55),
	      "MAP_POPULATE makes the copies");
	check(full_of(read_only, PAGES, 0x55),
	      "MAP_POPULATE of a read-only mapping");
	check(mlock(locked, PAGES * page_size) == 0 &&
		      full_of(locked, PAGES, 0x55) &&
		      smaps(locked, "Private_Dirty:") ==
			      (long)(PAGES * page_size / 1024),
	      "mlock populates");
	check(madvise(advised, PAGES * page_size, MADV_POPULATE_READ) == 0 &&
		      smaps(advised, "Private_Dirty:") == 0 &&
		      full_of(advised, PAGES, 0x55),
	      "MADV_POPULATE_READ");
	check(madvise(advised, PAGES * page_size, MADV_POPULATE_WRITE) == 0 &&
		      full_of(advised, PAGES, 0x55),
	      "MADV_POPULATE_WRITE after it");
}

static void moving_and_forking(void)
{
	char *area = mapped(filled(0x66), PROT_READ | PROT_WRITE, 0, 0);
	int status;
	pid_t child;

	area[0] = 1;
	area = mremap(area, PAGES * page_size, 2 * PAGES * page_size,
		      MREMAP_MAYMOVE);
	check(area != MAP_FAILED && area[0] == 1 &&
		      full_of(area + page_size, 2 * PAGES - 1, 0x66),
	      "what mremap adds shows the content too");

	child = fork();
	if (child == 0) {
		area[page_size] = 2;
		_exit(area[0] == 1 && area[page_size] == 2 &&
				      full_of(area + 2 * page_size, PAGES, 0x66) ?
			      0 :
			      1);
	}
	check(child > 0 && waitpid(child, &status, 0) == child &&
		      status == 0 && full_of(area + page_size, PAGES, 0x66),
	      "a child has the content and stores of its own");

	check(mprotect(area, PAGES * page_size, PROT_READ) == 0 &&
		      mprotect(area, PAGES * page_size,
			       PROT_READ | PROT_WRITE) == 0 &&
		      (area[3 * page_size] = 3, area[4 * page_size]) == 0x66 &&
		      area[3 * page_size + 1] == 0x66,
	      "mprotect there and back does not make it shared");
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	page_size = (size_t)sysconf(_SC_PAGESIZE);
	handler = argc == 2 && strcmp(argv[1], "naive") == 0 ?
			  REFPAGE_DEV_NAIVE :
			  REFPAGE_DEV_SAFE;
	before_the_seal();
	contents();
	populating();
	moving_and_forking();
	printf("1..%d\n", number);
	return failures != 0;
}
