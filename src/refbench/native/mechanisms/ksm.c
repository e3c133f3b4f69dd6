/* SPDX-License-Identifier: MIT */
/* Filled when mapped, then offered to kernel samepage merging, which finds the equal pages. */
#include "mechanism.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define KSM "/sys/kernel/mm/ksm/"
#define MOST_SECONDS 20
#define NS_BETWEEN_LOOKS 20000000L
/*
 * The kernel puts a new process behind the scan that is under way; the second scan notes each
 * page's checksum, the third merges what did not change. With smart_scan (Linux 6.7) it passes
 * over an address that it knows from before, as from the sample before, up to 8 more times.
 */
#define SCANS_WITHOUT_GROWTH 12

/* ctx->private_words */
enum { BYTES_MAPPED };

/* A file of its own since Linux 5.19; /proc/self/ksm_stat of 6.1 does not have the line yet. */
static int64_t merged_pages(void)
{
	return rb_read_number("/proc/self/ksm_merging_pages");
}

/*
 * Merged pages that are mapped now. ksm_merging_pages goes on counting what was unmapped, as in the
 * sample before, until the scan comes by; smaps counts what is there, from Linux 6.7 on.
 */
static int64_t mapped_pages(const struct rb_context *ctx, bool scanned)
{
	int64_t kib = rb_read_field("/proc/self/smaps_rollup", "KSM");

	if (kib >= 0)
		return kib * 1024 / (int64_t)ctx->page_size;
	return scanned ? merged_pages() : -1;
}

static int ksm_setup(struct rb_context *ctx, struct rb_error *error)
{
	int64_t run = rb_read_number(KSM "run");

	(void)ctx;
	if (run < 0)
		return rb_fail(error, RB_UNSUPPORTED, 0, "It needs CONFIG_KSM.",
			       "This kernel has no samepage merging.");
	if (run != 1)
		return rb_fail(error, RB_UNSUPPORTED, 0, "As root: echo 1 > " KSM "run.",
			       "Samepage merging is switched off (" KSM "run is %lld).",
			       (long long)run);
	if (merged_pages() < 0)
		return rb_fail(error, RB_UNSUPPORTED, 0, "It needs Linux 5.19.",
			       "There is no /proc/self/ksm_merging_pages to tell how many "
			       "pages are merged.");
	return 0;
}

static void *ksm_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
		     struct rb_error *error)
{
	void *got = rb_map_anonymous(ctx, addr, size, flags, error);

	if (!got)
		return NULL;
	rb_fill(ctx, got, size);
	if (!rb_madvise(ctx, got, size, MADV_MERGEABLE)) {
		ctx->private_words[BYTES_MAPPED] += size;
		return got;
	}
	rb_fail(error, RB_UNSUPPORTED, errno, "It needs CONFIG_KSM.",
		"madvise(MADV_MERGEABLE) failed: %s.", strerror(errno));
	if (rb_munmap(ctx, got, size))
		rb_fail_map(error, size, errno);
	return NULL;
}

static void ksm_forget(struct rb_context *ctx, void *addr, size_t size)
{
	(void)addr;
	if (size > ctx->private_words[BYTES_MAPPED])
		size = ctx->private_words[BYTES_MAPPED];
	ctx->private_words[BYTES_MAPPED] -= size;
}

static int64_t seconds_since(const struct timespec *start)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now))
		return MOST_SECONDS;
	return now.tv_sec - start->tv_sec;
}

/* Done when every page is merged, or when whole scans find nothing more to merge. */
static int ksm_settle(struct rb_context *ctx, struct rb_error *error)
{
	const struct timespec pause = { .tv_nsec = NS_BETWEEN_LOOKS };
	int64_t all = (int64_t)(ctx->private_words[BYTES_MAPPED] / ctx->page_size);
	int64_t pages = -1;
	int64_t first = rb_read_number(KSM "full_scans");
	int64_t scans = first;
	struct timespec start;

	if (clock_gettime(CLOCK_MONOTONIC, &start))
		return rb_fail(error, RB_UNSUPPORTED, errno, "", "There is no monotonic clock.");
	while (seconds_since(&start) < MOST_SECONDS) {
		int64_t scans_now = rb_read_number(KSM "full_scans");
		int64_t pages_now = mapped_pages(ctx, scans_now > first + 1);

		if (pages_now >= all)
			return 0;
		if (pages_now != pages) {
			pages = pages_now;
			scans = scans_now;
		} else if (scans_now >= scans + SCANS_WITHOUT_GROWTH) {
			return 0;
		}
		(void)nanosleep(&pause, NULL);
	}
	return rb_fail_limit(error, MOST_SECONDS + 1, MOST_SECONDS,
			     "Let it scan faster: as root, echo 10000 > " KSM "pages_to_scan.",
			     "Samepage merging was not done after %d seconds; %lld pages were "
			     "merged.",
			     MOST_SECONDS, (long long)merged_pages());
}

static void ksm_facts(struct rb_context *ctx, char *buf, size_t size)
{
	(void)ctx;
	if (snprintf(buf, size, "ksm_pages_to_scan=%lld;ksm_sleep_millisecs=%lld",
		     (long long)rb_read_number(KSM "pages_to_scan"),
		     (long long)rb_read_number(KSM "sleep_millisecs")) < 0)
		buf[0] = '\0';
}

static const struct rb_mechanism ksm_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "ksm",
	.applies_pattern = true,
	.setup = ksm_setup,
	.map = ksm_map,
	.forget = ksm_forget,
	.settle = ksm_settle,
	.facts = ksm_facts,
};
RB_REGISTER(ksm_mechanism);
