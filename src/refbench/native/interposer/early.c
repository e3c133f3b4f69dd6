/* SPDX-License-Identifier: MIT */
/*
 * Memory for calls that come while the interposer itself is being made ready: the loader's, and
 * those of pthread_create(3). It is never given back.
 */
#include "interposer.h"

#define ROOM (256u << 10)
#define HEADER 16

static unsigned char room[ROOM] __attribute__((aligned(4096)));
static atomic_size_t taken;

void *rb_early_alloc(size_t align, size_t size)
{
	size_t before = atomic_load(&taken);
	size_t at;

	if (align < HEADER)
		align = HEADER;
	if (size > ROOM || align > ROOM)
		return NULL;
	do {
		at = (before + HEADER + align - 1) & ~(align - 1);
		if (at + size > ROOM)
			return NULL;
	} while (!atomic_compare_exchange_weak(&taken, &before, at + size));
	*(size_t *)(void *)(room + at - HEADER) = size;
	return room + at;
}

bool rb_early_owns(const void *addr)
{
	return (uintptr_t)addr - (uintptr_t)room < ROOM;
}

size_t rb_early_size(const void *addr)
{
	return *(const size_t *)(const void *)((const unsigned char *)addr - HEADER);
}
