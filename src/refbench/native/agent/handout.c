/* SPDX-License-Identifier: MIT */
/* What an allocator above the mechanism stores when it hands out memory. */
#include "agent.h"

#include <string.h>

struct filling {
	const struct step *step;
	unsigned char *at;
};

/* Whether the allocator fills it: docs/program-format.md, handout. */
static bool is_filled(enum past past)
{
	if (!mechanism->applies_pattern || mechanism->fills_at_malloc)
		return mechanism->fills_at_malloc;
	return past == P_REUSED || (past == P_PURGED && !mechanism->purge_restores);
}

/* The pattern of a page begins where a page does. */
static void fill_once(unsigned char *at, uint64_t size)
{
	while (size) {
		size_t inside = (uintptr_t)at % context.page_size;
		size_t part = context.page_size - inside;

		if (context.pattern.is_byte || !inside) {
			rb_fill(&context, at, size);
			return;
		}
		if (part > size)
			part = size;
		memcpy(at, context.pattern.page + inside, part);
		at += part;
		size -= part;
	}
}

static void fill(void *argument)
{
	const struct filling *f = argument;

	for (uint64_t i = 0; i < f->step->count; i++) {
		fill_once(f->at, f->step->length);
		/* Every time, although the bytes are the same. */
		__asm__ volatile("" : : "r"(f->at) : "memory");
	}
}

int handout_run(const struct step *s)
{
	const struct region *r = &program.regions[s->region];
	struct filling f = { s, r->base + s->offset };
	struct observation seen;
	struct trap trap;

	if (!is_filled(s->choice))
		return 0;
	guard_run(fill, &f, &trap);
	if (!trap.signal)
		return 0;
	seen = observation_of(s);
	observe_trap(&seen, r, &trap);
	return observe(&seen);
}
