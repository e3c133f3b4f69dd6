/* SPDX-License-Identifier: MIT */
/* The process beside the program: takes events out of the ring, serves faults, writes. */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IDLE_MS 2

static struct record_ring *ring;
static bool broken;		/* nothing is written any more; the program goes on */

static void note_failure(void)
{
	int none = 0;

	broken = true;
	atomic_compare_exchange_strong(&ring->failed, &none, errno ? errno : EIO);
}

static void take(const struct record_event *event)
{
	bool maps = event->kind == K_MAP || event->kind == K_MAP_ZERO;

	if (maps && record_faults_watch(event->address, event->length))
		note_failure();
	if (!broken && record_file_put(event))
		note_failure();
}

/* Up to the first event that is not there yet. */
static void drain(void)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	for (;; tail++) {
		struct record_slot *slot = &ring->slots[tail % RECORD_SLOTS];

		if (atomic_load_explicit(&slot->turn, memory_order_acquire) != tail + 1)
			break;
		take(&slot->event);
		atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
	}
	atomic_store_explicit(&ring->served, tail, memory_order_release);
}

/* Only what is needed stays open, so that nobody waits for us at the end of a pipe. */
static void close_others(const struct record_setup *setup)
{
	const int kept[] = { setup->file, setup->faults, setup->program };

	for (int fd = 0; fd < 65536; fd++) {
		bool keep = fd == kept[0] || fd == kept[1] || fd == kept[2];

		if (!keep && close(fd) && fd > 4096)
			break;
	}
}

/* A byte wakes us; the end of the pipe: the program has exited, died or executed another one. */
static bool is_gone(const struct record_setup *setup)
{
	char bytes[256];
	ssize_t got;

	do
		got = read(setup->program, bytes, sizeof(bytes));
	while (got > 0 || (got < 0 && errno == EINTR));
	return !got;
}

static void finish(void)
{
	drain();
	if (!broken && record_file_end(ring->end_facts))
		note_failure();
	atomic_store(&ring->done, 1);
}

void record_process(const struct record_setup *setup)
{
	struct pollfd fds[] = { { setup->faults, POLLIN, 0 }, { setup->program, POLLIN, 0 } };
	sigset_t all;
	int more = 0;

	ring = setup->ring;
	if (sigfillset(&all) || sigprocmask(SIG_BLOCK, &all, NULL) || setsid() < 0 ||
	    prctl(PR_SET_NAME, "refbench-trace"))
		note_failure();
	close_others(setup);
	if (record_faults_begin(setup) || record_file_begin(setup))
		note_failure();
	for (;;) {
		uint64_t before = atomic_load(&ring->tail);

		drain();
		more = record_faults_serve(drain);
		if (more < 0 && !broken)
			note_failure();
		if (is_gone(setup))
			break;
		if (more > 0 || atomic_load(&ring->tail) != before)
			continue;
		if (poll(fds, 2, IDLE_MS) < 0 && errno != EINTR)
			break;
	}
	finish();
	_exit(atomic_load(&ring->failed) ? 1 : 0);
}
