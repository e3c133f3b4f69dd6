/* SPDX-License-Identifier: MIT */
/*
 * The heap trace. The program's threads put events into a ring in shared memory; a process beside
 * it takes them out, serves the userfaults of the backing memory, by which it learns of first
 * touches, and writes the file: docs/trace-format.md.
 *
 *	record.c		the recorder's calls, in the program
 *	record_process.c	the process beside it
 *	record_faults.c		first touches
 *	record_file.c		the file
 *
 * The process beside it outlives the program by as long as it takes to end the file, however the
 * program ends. If that process ends first, the program goes on without being recorded.
 */
#ifndef REFBENCH_RECORD_H
#define REFBENCH_RECORD_H

#include "mechanism.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_SLOTS (1u << 16)
#define RECORD_FACTS 8192
#define RECORD_HIGH_FD 200	/* descriptors of ours are no lower, out of the program's way */

/* The kinds of events, as the file has them. */
enum record_kind {
	K_MAP = 1, K_UNMAP, K_PURGE, K_READ, K_WRITE, K_THREAD_BEGIN, K_THREAD_END, K_FORK,
	K_SPAN_FRESH, K_SPAN_REUSED, K_FREE,
	K_BLOCK_FRESH, K_BLOCK_REUSED, K_BLOCK, K_ZEROED, K_MAP_ZERO
};

struct record_event {
	uint64_t address;
	uint64_t length;
	uint32_t thread;
	uint8_t kind;
};

struct record_slot {
	atomic_uint_least64_t turn;	/* number of the event in it, plus 1, once it is there */
	struct record_event event;
};

struct record_ring {
	atomic_uint_least64_t head;	/* number of the next event */
	atomic_uint_least64_t tail;	/* number of the next event that is to be taken out */
	atomic_uint_least64_t served;	/* events before it are taken care of, not only taken */
	atomic_int done;		/* the file is complete */
	atomic_int failed;		/* it is not, and this errno is why */
	char start_facts[RECORD_FACTS];	/* "key=value\n", into the header of the file */
	char end_facts[RECORD_FACTS];	/* the same for its end */
	struct record_slot slots[RECORD_SLOTS];
};

struct record_setup {
	struct record_ring *ring;
	const char *path;
	size_t page_size;
	int file;
	int faults;		/* the userfaultfd */
	int program;		/* end of a pipe that closes when the program is gone */
};

/* record_process.c: never returns. */
void record_process(const struct record_setup *setup) __attribute__((noreturn));

/* record_faults.c */
int record_faults_open(struct rb_error *error);		/* the userfaultfd, or -1 */
int record_faults_begin(const struct record_setup *setup);
int record_faults_watch(uint64_t address, uint64_t size);
/* Serves what waits; `before` is called ahead of each. 0, or -1 when the program is gone. */
int record_faults_serve(void (*before)(void));

/* record_file.c: -1 when the file cannot be written, with errno set. */
int record_file_begin(const struct record_setup *setup);
int record_file_put(const struct record_event *event);
int record_file_end(const char *facts);

#endif
