/* SPDX-License-Identifier: MIT */
/* Touching memory, in an order that needs no memory. */
#include "agent.h"

struct walk {
	const struct step *step;
	unsigned char *base;
	uint64_t places;
	uint64_t first, last, by;	/* of the order */
};

static uint64_t splitmix64(uint64_t z)
{
	z += 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static unsigned int half_bits(uint64_t n)
{
	unsigned int b = 0;

	while (b < 32 && (1ull << 2 * b) < n)
		b++;
	return b;
}

static uint64_t permute(uint64_t k, uint64_t n, uint64_t seed, unsigned int b)
{
	uint64_t mask = (1ull << b) - 1;

	do {
		uint64_t left = k >> b;
		uint64_t right = k & mask;

		for (uint64_t r = 0; r < 4; r++) {
			uint64_t mixed = left ^ (splitmix64((seed << 32) + (r << 56) + right) & mask);

			left = right;
			right = mixed;
		}
		k = left << b | right;
	} while (k >= n);
	return k;
}

static inline void visit(const struct step *s, unsigned char *base, uint64_t place)
{
	uint64_t at = place * s->stride;
	uint64_t size = s->length - at < s->size ? s->length - at : s->size;
	volatile unsigned char *byte = base + at;

	if (s->access & A_READ)
		for (uint64_t i = 0; i < size; i++)
			(void)byte[i];
	if (s->access & A_WRITE)
		for (uint64_t i = 0; i < size; i++)
			byte[i] = s->value;
}

static void walk(void *argument)
{
	const struct walk *w = argument;
	const struct step *s = w->step;
	unsigned int b = half_bits(w->places);

	switch (s->order) {
	case O_FORWARD:
		for (uint64_t k = w->first; k < w->last; k += w->by)
			visit(s, w->base, k);
		break;
	case O_BACKWARD:
		for (uint64_t k = w->first; k < w->last; k += w->by)
			visit(s, w->base, w->places - 1 - k);
		break;
	default:
		for (uint64_t k = w->first; k < w->last; k += w->by)
			visit(s, w->base, permute(k, w->places, s->seed, b));
	}
}

int touch_run(const struct task *task, const struct step *s)
{
	const struct region *r = &program.regions[s->region];
	bool share = s->flag && task->count;
	struct walk w = {
		.step = s,
		.base = r->base + s->offset,
		.places = s->length / s->stride + (s->length % s->stride != 0),
		.first = share ? task->index : 0,
		.by = share ? task->count : 1,
	};
	struct observation seen;
	struct trap trap;

	w.last = s->count && s->count < w.places ? s->count : w.places;
	guard_run(walk, &w, &trap);
	if (!trap.signal)
		return 0;
	seen = observation_of(s);
	observe_trap(&seen, r, &trap);
	return observe(&seen);
}
