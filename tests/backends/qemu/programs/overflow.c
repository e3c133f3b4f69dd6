// SPDX-License-Identifier: GPL-2.0-only
/*
 * overflow MECHANISM COUNT: are the counts of a reference page safe?
 *
 * MECHANISM: naive, safe (of /dev/refpage), refpage, refpage-mmap, v1.
 * COUNT, which is preset as if others mapped the page already:
 *   refcount  4 below the largest
 *   mapcount  4 below the largest
 *   wrap      the refcount 6 below zero, as 2^32 - 6 references leave it
 *
 * Then it maps, reads, stores, forks, discards and moves, and says in lines of
 * "name=value" what the counts and the content became. Exit status 0: every
 * page could be read and every count is as it was preset; 1: not so; 2: the
 * test could not be made.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "refbench_overflow.h"
#include "refpage_dev.h"

#define MAP_REFPAGE 0x200000	/* of the series */
#define MAP_REFPAGE_V1 0x400000 /* of the test-only patch */
#define PAGES 64
#define READ 16 /* pages that are read after the preset */
#define MARGIN 4
#define WRAP 6
#define PATTERN 0x5a

static size_t page_size;
static sigjmp_buf on_segv;
static volatile sig_atomic_t reading;

static void give_up(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

static void segv(int signal)
{
	if (!reading)
		_exit(128 + signal);
	siglongjmp(on_segv, signal);
}

/* Its own place with unmapped neighbours: v1 merges with anonymous ones. */
static char *reserve(void)
{
	char *area = mmap(NULL, (PAGES + 2) * page_size, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		give_up("reserve");
	return area + page_size;
}

static char *map_at(int flags, int fd, const void *offset)
{
	char *at = reserve();

	/* The system call, for the offset is an address. */
	if (syscall(SYS_mmap, at, PAGES * page_size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_FIXED | flags, fd, offset) != (long)at)
		give_up("mmap");
	return at;
}

static char *content(int byte)
{
	char *page = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		give_up("content");
	memset(page, byte, page_size);
	return page;
}

static int open_device(__u32 handler, const char *page)
{
	int fd = open(REFPAGE_DEV_PATH, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		give_up(REFPAGE_DEV_PATH);
	if (ioctl(fd, REFPAGE_DEV_SET_HANDLER, &handler) != 0)
		give_up("REFPAGE_DEV_SET_HANDLER");
	if (write(fd, page, page_size) != (ssize_t)page_size)
		give_up("write");
	return fd;
}

static char *map_refpage(void)
{
	const char *number = getenv("REFBENCH_NR_REFPAGE_CREATE");
	long fd;

	if (number == NULL)
		give_up("REFBENCH_NR_REFPAGE_CREATE");
	fd = syscall(atol(number), content(PATTERN), page_size, 0ul);
	if (fd < 0)
		give_up("refpage_create");
	return map_at(0, (int)fd, NULL);
}

static char *map_mechanism(const char *name)
{
	if (strcmp(name, "naive") == 0)
		return map_at(0, open_device(REFPAGE_DEV_NAIVE, content(PATTERN)),
			      NULL);
	if (strcmp(name, "safe") == 0)
		return map_at(0, open_device(REFPAGE_DEV_SAFE, content(PATTERN)),
			      NULL);
	if (strcmp(name, "refpage") == 0)
		return map_refpage();
	if (strcmp(name, "refpage-mmap") == 0)
		return map_at(MAP_REFPAGE, -1, content(PATTERN));
	if (strcmp(name, "v1") == 0)
		return map_at(MAP_REFPAGE_V1, -1, content(PATTERN));
	errno = EINVAL;
	give_up(name);
	return NULL;
}

static bool shows(const volatile char *area, int page, int wanted)
{
	return area[page * page_size] == wanted;
}

static struct refbench_counts counts_of(int fd)
{
	struct refbench_counts counts;

	if (ioctl(fd, REFBENCH_COUNTS_READ, &counts) != 0)
		give_up("REFBENCH_COUNTS_READ");
	return counts;
}

static struct refbench_counts say(const char *when, int fd)
{
	struct refbench_counts counts = counts_of(fd);

	printf("%s.refcount=%d\n%s.mapcount=%d\n", when, counts.refcount, when,
	       counts.mapcount);
	return counts;
}

static bool same(struct refbench_counts a, struct refbench_counts b)
{
	return a.refcount == b.refcount && a.mapcount == b.mapcount;
}

static void add(int fd, int refcount, int mapcount)
{
	struct refbench_counts counts = { refcount, mapcount };

	if (ioctl(fd, REFBENCH_COUNTS_ADD, &counts) != 0)
		give_up("REFBENCH_COUNTS_ADD");
}

/* The number of pages that could be read; the rest of them faults. */
static int read_pages(const char *area, int first, int pages)
{
	static volatile int done;

	done = 0;
	if (sigsetjmp(on_segv, 1) == 0) {
		reading = 1;
		while (done < pages && shows(area, first + done, PATTERN))
			done++;
	}
	reading = 0;
	return done;
}

static void in_a_child(const char *area)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		give_up("fork");
	if (child == 0)
		_exit(read_pages(area, 0, PAGES / 2) == PAGES / 2 ? 0 : 1);
	if (waitpid(child, &status, 0) != child)
		give_up("waitpid");
	printf("child=%s\n", status == 0 ? "right" : "wrong");
}

/* Everything that installs, copies or drops PTEs. All pages are right then. */
static void exercise(char **area)
{
	volatile char *bytes = *area;
	char *moved;
	int page;

	for (page = 32; page < 40; page++) /* first stores */
		bytes[page * page_size + 1] = 1;
	for (page = 1; page < 8; page++) /* stores after a read */
		bytes[page * page_size + 1] = 1;
	in_a_child(*area);
	if (madvise(*area + 8 * page_size, 4 * page_size, MADV_DONTNEED) != 0)
		give_up("MADV_DONTNEED");
	moved = mremap(*area, PAGES * page_size, PAGES * page_size,
		       MREMAP_MAYMOVE | MREMAP_FIXED, reserve());
	if (moved == MAP_FAILED)
		give_up("mremap");
	*area = moved;
	printf("content=%s\n",
	       read_pages(*area, 0, PAGES) == PAGES ? "right" : "wrong");
}

/* Has the page become another's, whose content the mapping shows now? */
static bool freed_in_use(const char *area)
{
	const char *other = content(~PATTERN & 0xff);
	int file;

	for (file = 0; file < 64; file++)
		(void)open_device(REFPAGE_DEV_SAFE, other);
	return !shows(area, 0, PATTERN);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = segv };
	struct refbench_counts base, preset, after;
	int refcount = 0, mapcount = 0, fd, pages;
	char *area;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 3) {
		errno = EINVAL;
		give_up("overflow MECHANISM refcount|mapcount|wrap");
	}
	page_size = (size_t)sysconf(_SC_PAGESIZE);
	if (sigaction(SIGSEGV, &action, NULL) != 0)
		give_up("sigaction");
	fd = open(REFBENCH_OVERFLOW_PATH, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		give_up(REFBENCH_OVERFLOW_PATH);

	area = map_mechanism(argv[1]);
	if (!shows(area, 0, PATTERN) || ioctl(fd, REFBENCH_COUNTS_FIND, area))
		give_up("the first page");
	base = say("base", fd);
	if (strcmp(argv[2], "refcount") == 0)
		refcount = INT_MAX - MARGIN - base.refcount;
	else if (strcmp(argv[2], "mapcount") == 0)
		mapcount = INT_MAX - MARGIN - base.mapcount;
	else
		refcount = -WRAP - base.refcount;
	add(fd, refcount, mapcount);
	preset = say("preset", fd);

	pages = read_pages(area, 1, READ);
	printf("read=%d\n", pages);
	after = say("after", fd);
	if (pages == READ && same(after, preset)) {
		exercise(&area);
		after = say("exercised", fd);
	} else {
		/* In the wrapped case this drops just what is left above zero. */
		int drop = pages > 0 ? pages : 1;

		if (refcount < 0 && after.refcount > 0)
			drop = after.refcount;
		if (munmap(area + page_size, drop * page_size) != 0)
			give_up("munmap");
		say("unmapped", fd);
		if (refcount < 0 && pages > 0 && freed_in_use(area)) {
			printf("freed_in_use=yes\n");
			return 1; /* the counts are somebody else's by now */
		}
	}
	add(fd, -refcount, -mapcount);
	return pages == READ && same(after, preset) ? 0 : 1;
}
