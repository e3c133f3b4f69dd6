/* SPDX-License-Identifier: MIT */
#include "ranges.h"

#include <errno.h>
#include <sys/mman.h>

/* Room for the ranges that partial unmapping splits. */
#define MOST_ENTRIES (2 * RB_MOST_RANGES)

struct range {
	_Atomic(uintptr_t) start;
	_Atomic(uintptr_t) end;
};

/*
 * A sequence lock: odd while a change is under way; readers that saw a change look again. Readers
 * never wait for a thread that they have interrupted, for changes never touch a mapped range.
 */
struct rb_ranges {
	atomic_flag changing;
	atomic_uint sequence;
	_Atomic(size_t) count;
	struct range entries[MOST_ENTRIES];
};

static uintptr_t get(const _Atomic(uintptr_t) *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

static void set(struct range *entry, uintptr_t start, uintptr_t end)
{
	atomic_store_explicit(&entry->start, start, memory_order_relaxed);
	atomic_store_explicit(&entry->end, end, memory_order_relaxed);
}

struct rb_ranges *rb_ranges_open(struct rb_context *ctx, struct rb_error *error)
{
	struct rb_ranges *ranges = rb_map_new(ctx, NULL, sizeof(*ranges), PROT_READ | PROT_WRITE,
					      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, error);

	if (!ranges)
		return NULL;
	atomic_flag_clear(&ranges->changing);
	for (size_t i = 0; i < RB_PRESENT_RANGES; i++)
		set(&ranges->entries[i], 0, 0);
	return ranges;
}

void rb_ranges_close(struct rb_context *ctx, struct rb_ranges *ranges)
{
	if (ranges)
		(void)rb_munmap(ctx, ranges, sizeof(*ranges));
}

static void begin_change(struct rb_ranges *ranges)
{
	while (atomic_flag_test_and_set_explicit(&ranges->changing, memory_order_acquire))
		;
	atomic_fetch_add_explicit(&ranges->sequence, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

static void end_change(struct rb_ranges *ranges)
{
	atomic_fetch_add_explicit(&ranges->sequence, 1, memory_order_release);
	atomic_flag_clear_explicit(&ranges->changing, memory_order_release);
}

void rb_ranges_after_fork(struct rb_ranges *ranges)
{
	unsigned int sequence = atomic_load(&ranges->sequence);

	atomic_store(&ranges->sequence, sequence + (sequence & 1));
	atomic_flag_clear(&ranges->changing);
}

/* The number of entries that start at addr or below. */
static size_t search(const struct rb_ranges *ranges, uintptr_t addr)
{
	size_t low = 0;
	size_t high = atomic_load_explicit(&ranges->count, memory_order_relaxed);

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (get(&ranges->entries[middle].start) <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool rb_ranges_contain(const struct rb_ranges *ranges, uintptr_t addr)
{
	for (;;) {
		unsigned int before =
			atomic_load_explicit(&ranges->sequence, memory_order_acquire);
		size_t at = search(ranges, addr);
		bool found = at && addr < get(&ranges->entries[at - 1].end);

		atomic_thread_fence(memory_order_acquire);
		if (!(before & 1) &&
		    before == atomic_load_explicit(&ranges->sequence, memory_order_relaxed))
			return found;
	}
}

bool rb_ranges_at(const struct rb_ranges *ranges, size_t index, void **addr, size_t *size)
{
	if (index >= atomic_load_explicit(&ranges->count, memory_order_relaxed))
		return false;
	*addr = (void *)get(&ranges->entries[index].start);
	*size = get(&ranges->entries[index].end) - get(&ranges->entries[index].start);
	return true;
}

/* Make room for one entry at an index, or close the gap that `from` leaves when it moves to `to`. */
static void move(struct rb_ranges *ranges, size_t to, size_t from)
{
	size_t count = atomic_load_explicit(&ranges->count, memory_order_relaxed);
	struct range *e = ranges->entries;

	if (to > from) {
		for (size_t i = count; i-- > from;)
			set(&e[i + (to - from)], get(&e[i].start), get(&e[i].end));
	} else {
		for (size_t i = from; i < count; i++)
			set(&e[i - (from - to)], get(&e[i].start), get(&e[i].end));
	}
	atomic_store_explicit(&ranges->count, count + to - from, memory_order_relaxed);
}

int rb_ranges_add(struct rb_ranges *ranges, const void *addr, size_t size, struct rb_error *error)
{
	uintptr_t start = (uintptr_t)addr;
	size_t at;

	begin_change(ranges);
	if (atomic_load_explicit(&ranges->count, memory_order_relaxed) >= RB_MOST_RANGES) {
		end_change(ranges);
		return rb_fail_limit(error, RB_MOST_RANGES + 1, RB_MOST_RANGES,
				     "Map fewer and larger regions.",
				     "This mechanism's table has room for %d mappings at a time.",
				     RB_MOST_RANGES);
	}
	at = search(ranges, start);
	move(ranges, at + 1, at);
	set(&ranges->entries[at], start, start + size);
	end_change(ranges);
	return 0;
}

void rb_ranges_remove(struct rb_ranges *ranges, const void *addr, size_t size)
{
	uintptr_t start = (uintptr_t)addr;
	uintptr_t end = start + size;
	struct range *e = ranges->entries;
	size_t at, last;

	begin_change(ranges);
	at = search(ranges, start);
	if (at && get(&e[at - 1].start) < start && get(&e[at - 1].end) > end) {
		/* A full table keeps the whole; the kernel knows what is mapped. */
		if (atomic_load_explicit(&ranges->count, memory_order_relaxed) < MOST_ENTRIES) {
			move(ranges, at + 1, at);
			set(&e[at], end, get(&e[at - 1].end));
			set(&e[at - 1], get(&e[at - 1].start), start);
		}
		end_change(ranges);
		return;
	}
	if (at && get(&e[at - 1].start) < start && get(&e[at - 1].end) > start)
		set(&e[at - 1], get(&e[at - 1].start), start);
	else if (at && get(&e[at - 1].start) == start)
		at--;
	last = search(ranges, end - 1);
	if (last > at && get(&e[last - 1].end) > end) {
		last--;
		set(&e[last], end, get(&e[last].end));
	}
	if (last > at)
		move(ranges, at, last);
	end_change(ranges);
}
