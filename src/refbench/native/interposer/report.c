/* SPDX-License-Identifier: MIT */
/* Numbers at exit, "NAME NUMBER" lines, for whoever started the program. */
#include "interposer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int report_fd = -1;
static pid_t reporter;

struct shares {
	uint64_t private_bytes;		/* of the process, swap included */
	uint64_t supplied;		/* of that, in memory of the mechanism */
};

/*
 * Of the mechanism's mappings all private pages count, be they a memfd's; of others anonymous ones.
 * Pages of files, the text of libraries, are the page cache's, and dirty where files are in tmpfs.
 */
static const struct {
	const char *name;
	bool ours;
	bool others;
} fields[] = {
	{ "Private_Clean:", true, false },
	{ "Private_Dirty:", true, false },
	{ "Anonymous:", false, true },
	{ "Swap:", true, true },
};

/* One line of smaps: the beginning of a mapping, or a number of it. */
static void take_line(const char *line, bool *ours, struct shares *shares)
{
	uint64_t number;
	uint64_t end;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &number, &end) == 2) {
		*ours = rb_backing_supplied((uintptr_t)number);
		return;
	}
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		size_t length = strlen(fields[i].name);

		if (!(*ours ? fields[i].ours : fields[i].others) ||
		    strncmp(line, fields[i].name, length) ||
		    sscanf(line + length, "%" SCNu64, &number) != 1)
			continue;
		shares->private_bytes += number * 1024;
		shares->supplied += *ours ? number * 1024 : 0;
	}
}

static bool read_shares(struct shares *shares)
{
	static char text[16384];
	size_t used = 0;
	bool ours = false;
	ssize_t got;
	int fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);

	memset(shares, 0, sizeof(*shares));
	if (fd < 0)
		return false;
	while ((got = read(fd, text + used, sizeof(text) - 1 - used)) > 0) {
		char *line = text;
		char *end;

		used += (size_t)got;
		text[used] = '\0';
		while ((end = strchr(line, '\n'))) {
			*end = '\0';
			take_line(line, &ours, shares);
			line = end + 1;
		}
		used = (size_t)(text + used - line);
		memmove(text, line, used);
	}
	return !close(fd) && !got;
}

static void write_all(const char *text, size_t length)
{
	while (length) {
		ssize_t done = write(report_fd, text, length);

		if (done <= 0)
			return;
		text += done;
		length -= (size_t)done;
	}
}

static void report(void)
{
	struct shares shares;
	char text[1024];
	bool known;
	int length;

	rb_handout_flush();
	known = read_shares(&shares);
	length = snprintf(
		text, sizeof(text),
		"malloc-handouts %" PRIu64 "\nmalloc-filled-bytes %" PRIu64
		"\nmalloc-fresh-bytes %" PRIu64 "\nmalloc-mapped-bytes %" PRIu64
		"\nmalloc-mapped-most-bytes %" PRIu64 "\nmalloc-zero-bytes %" PRIu64
		"\nmalloc-own-bytes %" PRIu64
		"\nmalloc-bits-bytes %" PRIu64 "\nmalloc-maps %" PRIu64
		"\nmalloc-purged-bytes %" PRIu64 "\nmalloc-refused-extents %" PRIu64
		"\nmalloc-syscalls %" PRIu64 "\nmalloc-traps %" PRIu64 "\n",
		atomic_load(&rb_handout_counts.handouts),
		atomic_load(&rb_handout_counts.filled), atomic_load(&rb_handout_counts.fresh),
		atomic_load(&rb_backing_counts.mapped), atomic_load(&rb_backing_counts.mapped_most),
		atomic_load(&rb_backing_counts.zero), atomic_load(&rb_backing_counts.own), rb_fresh_memory(),
		atomic_load(&rb_backing_counts.maps), atomic_load(&rb_backing_counts.purged),
		atomic_load(&rb_backing_counts.refused),
		atomic_load(&rb_context.counters->syscalls),
		atomic_load(&rb_context.counters->uffd_messages));
	if (length < 0 || (size_t)length >= sizeof(text))
		return;
	write_all(text, (size_t)length);
	if (!known)
		return;
	length = snprintf(text, sizeof(text),
			  "private-bytes %" PRIu64 "\nprivate-supplied-bytes %" PRIu64 "\n",
			  shares.private_bytes, shares.supplied);
	if (length > 0)
		write_all(text, (size_t)length);
}

void rb_report_start(const char *descriptor)
{
	char *end;
	long number;

	reporter = getpid();
	if (!descriptor || !*descriptor)
		return;
	number = strtol(descriptor, &end, 10);
	/* Programs that this one executes must not write there as well. */
	if (*end || number < 0 || fcntl((int)number, F_SETFD, FD_CLOEXEC) ||
	    unsetenv("REFBENCH_MALLOC_REPORT"))
		return;
	report_fd = (int)number;
}

__attribute__((destructor)) static void finish(void)
{
	if (getpid() != reporter)
		return;
	RB_RECORD(finish);
	if (report_fd >= 0)
		report();
}
