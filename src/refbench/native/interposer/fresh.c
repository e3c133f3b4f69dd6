/* SPDX-License-Identifier: MIT */
/*
 * Which bytes were handed out since their memory was fresh: a bit a granule, 1/128 of what the
 * program used, and the requested size of every large block. Two levels, so that an address is
 * found without a lock and nothing is copied when the heap grows. Memory is taken a GiB of
 * addresses at a time and touched as the heap is.
 */
#include "interposer.h"

#include <errno.h>
#include <sys/mman.h>

#define GIB (1ull << 30)
#define WORD_BYTES (RB_GRANULE * 64)	/* of the heap, that one word of bits stands for */
#define UNIT 4096			/* no two large blocks begin in the same one */
#define PARTS (1u << 18)		/* GiB of a 48-bit address space */
#define ENDED 1u			/* in the pointer to a part */

struct part {
	_Atomic(uint64_t) used[GIB / WORD_BYTES];
	_Atomic(uint64_t) requested[GIB / UNIT];
};

static _Atomic(uintptr_t) parts[PARTS];

static uintptr_t part_at(uintptr_t addr)
{
	uintptr_t index = addr / GIB;

	return index < PARTS ? atomic_load_explicit(&parts[index], memory_order_acquire) : 0;
}

static struct part *of(uintptr_t found)
{
	return (struct part *)(found & ~(uintptr_t)ENDED);
}

static size_t word_of(uintptr_t addr)
{
	return addr % GIB / WORD_BYTES;
}

/* The end of the GiB that addr lies in, but at most `end`. */
static uintptr_t within(uintptr_t addr, uintptr_t end)
{
	uintptr_t last = (addr | (GIB - 1)) + 1;

	return last < end ? last : end;
}

static int make_part(_Atomic(uintptr_t) *place, bool fresh)
{
	uintptr_t none = 0;
	void *got = mmap(NULL, sizeof(struct part), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (got == MAP_FAILED)
		return -1;
	if (!atomic_compare_exchange_strong(place, &none, (uintptr_t)got | (fresh ? 0 : ENDED)))
		(void)munmap(got, sizeof(struct part));
	return 0;
}

int rb_fresh_announce(uintptr_t addr, size_t size, bool fresh)
{
	for (uintptr_t at = addr; at < addr + size; at = within(at, addr + size)) {
		if (at / GIB >= PARTS)
			return -1;
		if (!part_at(at) && make_part(&parts[at / GIB], fresh))
			return -1;
	}
	return 0;
}

void rb_fresh_again(uintptr_t addr, size_t size)
{
	for (uintptr_t at = addr; at < addr + size; at += WORD_BYTES) {
		uintptr_t found = part_at(at);
		_Atomic(uint64_t) *word;

		if (!found || found & ENDED)
			continue;
		word = &of(found)->used[word_of(at)];
		/* A load of what was never stored to takes no memory. */
		if (atomic_load_explicit(word, memory_order_relaxed))
			atomic_store_explicit(word, 0, memory_order_relaxed);
	}
}

void rb_fresh_end(void)
{
	for (size_t i = 0; i < PARTS; i++) {
		uintptr_t found = atomic_load_explicit(&parts[i], memory_order_relaxed);

		if (found)
			atomic_store_explicit(&parts[i], found | ENDED, memory_order_relaxed);
	}
}

uintptr_t rb_fresh_run(uintptr_t addr, uintptr_t end, bool *fresh)
{
	uintptr_t found = part_at(addr);
	uintptr_t last = within(addr, end);
	uint64_t word;

	*fresh = false;
	if (!found || found & ENDED)
		return last;
	word = atomic_load_explicit(&of(found)->used[word_of(addr)], memory_order_relaxed);
	*fresh = !(word >> (addr / RB_GRANULE % 64) & 1);
	while (addr < last) {
		word = atomic_load_explicit(&of(found)->used[word_of(addr)], memory_order_relaxed);
		word = (*fresh ? word : ~word) >> (addr / RB_GRANULE % 64);
		if (word) {
			addr += (uintptr_t)__builtin_ctzll(word) * RB_GRANULE;
			break;
		}
		addr = (addr | (WORD_BYTES - 1)) + 1;
	}
	return addr < last ? addr : last;
}

void rb_fresh_use(uintptr_t addr, uintptr_t end)
{
	while (addr < end) {
		uintptr_t found = part_at(addr);
		uintptr_t next = (addr | (WORD_BYTES - 1)) + 1;
		uintptr_t stop = next < end ? next : end;
		uint64_t mask = ~0ull << (addr / RB_GRANULE % 64);
		_Atomic(uint64_t) *word;

		if (!found || found & ENDED) {
			addr = within(addr, end);
			continue;
		}
		if (stop < next)
			mask &= ~0ull >> ((next - stop) / RB_GRANULE);
		word = &of(found)->used[word_of(addr)];
		/* Another thread's blocks may share the word. */
		if ((atomic_load_explicit(word, memory_order_relaxed) & mask) != mask)
			atomic_fetch_or_explicit(word, mask, memory_order_relaxed);
		addr = stop;
	}
}

size_t rb_fresh_requested(uintptr_t addr)
{
	uintptr_t found = part_at(addr);

	return found ? atomic_load_explicit(&of(found)->requested[addr % GIB / UNIT],
					    memory_order_relaxed)
		     : 0;
}

void rb_fresh_set_requested(uintptr_t addr, size_t size)
{
	uintptr_t found = part_at(addr);

	if (found)
		atomic_store_explicit(&of(found)->requested[addr % GIB / UNIT], size,
				      memory_order_relaxed);
}

bool rb_fresh_knows(uintptr_t addr)
{
	return part_at(addr) != 0;
}

/* Present pages of all parts; what cannot be asked for counts as nothing. */
uint64_t rb_fresh_memory(void)
{
	size_t page = rb_context.page_size;
	uint64_t present = 0;
	unsigned char seen[512];

	for (size_t i = 0; i < PARTS; i++) {
		unsigned char *part = (unsigned char *)of(
			atomic_load_explicit(&parts[i], memory_order_relaxed));

		for (size_t at = 0; part && at < sizeof(struct part); at += sizeof(seen) * page) {
			size_t length = sizeof(struct part) - at;

			if (length > sizeof(seen) * page)
				length = sizeof(seen) * page;
			if (mincore(part + at, length, seen))
				continue;
			for (size_t j = 0; j < (length + page - 1) / page; j++)
				present += seen[j] & 1 ? page : 0;
		}
	}
	return present;
}
