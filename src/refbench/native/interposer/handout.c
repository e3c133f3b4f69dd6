/* SPDX-License-Identifier: MIT */
/*
 * What every block goes through on its way to the program. A small block is handed out with all
 * of its size class, so that realloc(3) within the class needs no record of what was asked for;
 * of a large one only the requested bytes are, for its other pages may never be touched.
 */
#include "interposer.h"

#include <stdlib.h>
#include <string.h>

#define FLUSH (1u << 20)

struct rb_handout_counts rb_handout_counts;

static uintptr_t down(uintptr_t addr)
{
	return addr & ~(uintptr_t)(RB_GRANULE - 1);
}

static uintptr_t up(uintptr_t addr)
{
	return down(addr + RB_GRANULE - 1);
}

/* The pattern's page repeats at every page of the address space. */
static void fill(uintptr_t from, uintptr_t end)
{
	size_t page = rb_context.page_size;

	if (rb_context.pattern.is_byte) {
		memset((void *)from, rb_context.pattern.byte, end - from);
		return;
	}
	while (from < end) {
		size_t offset = from & (page - 1);
		size_t part = page - offset < end - from ? page - offset : end - from;

		memcpy((void *)from, rb_context.pattern.page + offset, part);
		from += part;
	}
}

/* ---- counting: a thread's own numbers, added to those of all now and then ---- */

static __thread struct {
	uint64_t handouts;
	uint64_t filled;
	uint64_t fresh;
} here __attribute__((tls_model("initial-exec")));

void rb_handout_flush(void)
{
	atomic_fetch_add_explicit(&rb_handout_counts.filled, here.filled, memory_order_relaxed);
	atomic_fetch_add_explicit(&rb_handout_counts.fresh, here.fresh, memory_order_relaxed);
	atomic_fetch_add_explicit(&rb_handout_counts.handouts, here.handouts,
				  memory_order_relaxed);
	here.handouts = 0;
	here.filled = 0;
	here.fresh = 0;
}

static void count(uint64_t filled, uint64_t fresh)
{
	here.handouts++;
	here.filled += filled;
	here.fresh += fresh;
	if (RB_UNLIKELY(here.filled + here.fresh >= FLUSH))
		rb_handout_flush();
}

/* ---- the checking mode ---- */

static void fail_check(uintptr_t addr, uintptr_t start, unsigned char wanted, bool fresh)
{
	rb_say("check failed under %s: byte %zu of the block at %#zx is %#x instead of %#x; its "
	       "memory is %s.",
	       rb_mechanism->name, (size_t)(addr - start), (size_t)start,
	       *(const unsigned char *)addr, wanted, fresh ? "fresh" : "reused");
	abort();
}

static void check(uintptr_t start, uintptr_t from, uintptr_t end, bool fresh)
{
	size_t page = rb_context.page_size;
	bool zero = !rb_mechanism->applies_pattern;

	if (zero && !fresh)
		return;
	for (uintptr_t at = from; at < end; at++) {
		unsigned char wanted = zero ? 0 : rb_context.pattern.page[at & (page - 1)];

		if (RB_UNLIKELY(*(const unsigned char *)at != wanted))
			fail_check(at, start, wanted, fresh);
	}
}

/* ---- handing out ---- */

/* [mark, end) is used from now on, and [from, end) is filled where it is not fresh. */
static void cover(uintptr_t start, uintptr_t mark, uintptr_t from, uintptr_t end,
		  uintptr_t checked)
{
	bool fills = rb_mechanism->applies_pattern;
	bool always = rb_mechanism->fills_at_malloc;
	uint64_t filled = 0;
	uint64_t untouched = 0;
	bool fresh;

	for (uintptr_t at = mark, stop; at < end; at = stop) {
		uintptr_t low = at < from ? from : at;

		stop = rb_fresh_run(at, end, &fresh);
		RB_RECORD(span, (void *)at, stop - at, fresh);
		if (fresh)
			rb_fresh_use(at, stop);
		if (stop <= low)
			continue;
		if (fills && (always || !fresh)) {
			fill(low, stop);
			filled += stop - low;
		} else {
			untouched += stop - low;
		}
		if (RB_UNLIKELY(rb_checking) && low < checked)
			check(start, low, stop < checked ? stop : checked, fresh);
	}
	count(filled, untouched);
}

/*
 * Whether a block is handed out with all of its bytes. Large ones that are not ours (of a thread
 * that is ending) have no place for what was asked for.
 */
static bool whole(uintptr_t start, size_t usable)
{
	return usable <= rb_small_most || !rb_fresh_knows(start);
}

void *rb_hand_out(void *addr, size_t size, size_t usable, size_t kept)
{
	uintptr_t start = (uintptr_t)addr;
	uintptr_t end;

	if (RB_UNLIKELY(usable < RB_GRANULE)) {
		/* Its granule has a neighbour in it, whose first use is not its own. */
		rb_fresh_use(down(start), up(start + usable));
		if (rb_mechanism->applies_pattern)
			fill(start + kept, start + usable);
		count(rb_mechanism->applies_pattern ? usable - kept : 0, 0);
		RB_RECORD(span, addr, usable, false);
	} else {
		end = whole(start, usable) ? start + usable : up(start + size);
		if (!whole(start, usable))
			rb_fresh_set_requested(start, size);
		cover(start, start, start + kept, end, start + size);
	}
	RB_RECORD(handed_out, addr, size, usable, false);
	return addr;
}

void *rb_hand_on(void *addr, size_t size, size_t usable, size_t kept)
{
	uintptr_t start = (uintptr_t)addr;

	if (whole(start, usable)) {
		/* What was behind the old end is the pattern, unless the block was larger once. */
		if (rb_mechanism->applies_pattern && size < usable)
			fill(start + size, start + usable);
	} else {
		rb_fresh_set_requested(start, size);
		if (kept < size)
			cover(start, down(start + kept), start + kept, up(start + size),
			      start + size);
	}
	RB_RECORD(handed_out, addr, size, usable, false);
	return addr;
}

void *rb_hand_out_zeroed(void *addr, size_t size, size_t usable)
{
	uintptr_t start = (uintptr_t)addr;

	rb_fresh_use(down(start), up(start + usable));
	if (!whole(start, usable))
		rb_fresh_set_requested(start, size);
	else if (rb_mechanism->applies_pattern && size < usable)
		fill(start + size, start + usable);
	count(0, 0);
	RB_RECORD(handed_out, addr, size, usable, true);
	return addr;
}
