/* SPDX-License-Identifier: MIT */
/*
 * What the program itself offers to samepage merging, under a mechanism that does not: `settle`
 * waits for it as the mechanism ksm waits for its own.
 */
#include "agent.h"

#include <sys/mman.h>
#include <time.h>

#define KSM "/sys/kernel/mm/ksm/"
#define MOST_NS 20000000000ULL
#define NS_BETWEEN_LOOKS 5000000L
/* A page is merged by the second scan that finds it unchanged. */
#define SCANS_WITHOUT_GROWTH 2

static int64_t offered;		/* pages */

void merging_note(const struct step *s)
{
	if (s->choice == MADV_MERGEABLE)
		offered += (int64_t)(s->length / context.page_size);
}

void merging_forget(void)
{
	offered = 0;
}

void merging_settle(void)
{
	const struct timespec pause = { .tv_nsec = NS_BETWEEN_LOOKS };
	uint64_t end = now_ns() + MOST_NS;
	int64_t first = rb_read_number(KSM "full_scans");
	int64_t pages = -1, scans = first;

	if (!offered || rb_read_number(KSM "run") != 1)
		return;
	while (now_ns() < end) {
		int64_t pages_now = rb_read_number("/proc/self/ksm_merging_pages");
		int64_t scans_now = rb_read_number(KSM "full_scans");

		/* A page that a store has copied is in the count until a scan comes by. */
		if (pages_now >= offered && scans_now > first + 1)
			return;
		if (pages_now != pages) {
			pages = pages_now;
			scans = scans_now;
		} else if (scans_now > scans + SCANS_WITHOUT_GROWTH) {
			return;
		}
		(void)nanosleep(&pause, NULL);
	}
}
