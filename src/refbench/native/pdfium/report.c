/* SPDX-License-Identifier: MIT */
/* The report is kept in memory of the program's own, so that it asks the allocator for nothing. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

#define DESCRIPTOR 3
#define MULTIPLIER UINT64_C(0x9e3779b97f4a7c15)	/* 2^64 over the golden ratio, odd */
#define NUMBER_BITS (UINT64_MAX >> 1)		/* readers may keep numbers in an int64_t */

static char lines[1 << 14];
static size_t used;
static int wanted;

void fail(int code, const char *format, ...)
{
	va_list values;

	fputs("render: ", stderr);
	va_start(values, format);
	vfprintf(stderr, format, values);
	va_end(values);
	fputc('\n', stderr);
	/* No handlers: the library may be in the middle of something. */
	fflush(stderr);
	_exit(code);
}

uint64_t now_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now))
		fail(EXIT_FAILURE, "there is no monotonic clock: %s", strerror(errno));
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t hash_number(uint64_t hash, uint64_t number)
{
	hash = (hash ^ number) * MULTIPLIER;
	return hash ^ hash >> 32;
}

uint64_t hash_pixels(uint64_t hash, const void *data, size_t size)
{
	const unsigned char *byte = data;
	uint64_t word;

	for (; size >= sizeof(word); size -= sizeof(word), byte += sizeof(word)) {
		memcpy(&word, byte, sizeof(word));
		hash = hash_number(hash, word);
	}
	word = 0;
	memcpy(&word, byte, size);
	return hash_number(hash, word);
}

void report_open(void)
{
	struct stat status;

	wanted = !fstat(DESCRIPTOR, &status) &&
		 (S_ISFIFO(status.st_mode) || S_ISREG(status.st_mode));
}

void report_flush(void)
{
	size_t done = 0;

	while (done < used) {
		ssize_t wrote = write(DESCRIPTOR, lines + done, used - done);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0)
			fail(EXIT_OUTPUT, "the report cannot be written: %s", strerror(errno));
		done += (size_t)wrote;
	}
	used = 0;
}

void report(const char *name, uint64_t number)
{
	int length;

	if (!wanted)
		return;
	if (sizeof(lines) - used < 128)
		report_flush();
	length = snprintf(lines + used, sizeof(lines) - used, "%s %" PRIu64 "\n", name,
			  number & NUMBER_BITS);
	if (length < 0 || (size_t)length >= sizeof(lines) - used)
		fail(EXIT_OUTPUT, "the report has a line that is too long: %s", name);
	used += (size_t)length;
}

void report_page(int page, uint64_t ns, uint64_t hash)
{
	char name[32];

	snprintf(name, sizeof(name), "page-%d-ns", page);
	report(name, ns);
	snprintf(name, sizeof(name), "page-%d-hash", page);
	report(name, hash);
}
