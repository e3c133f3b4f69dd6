/* SPDX-License-Identifier: MIT */
/* Where regions lie: fixed slots, the same in every process and every sample. */
#include "agent.h"

#include <sys/mman.h>

#if UINTPTR_MAX > UINT32_MAX
#define FIRST_SLOT 0x1000000000ull	/* above a program, below half of 39 bits of address */
#define UNIT (1ull << 30)
#define UNIT_TEXT "1 GiB"
#else
#define FIRST_SLOT 0x10000000ull	/* above a program of 32 bits */
#define UNIT (2ull << 20)		/* a huge page of the 64-bit kernel that runs it */
#define UNIT_TEXT "2 MiB"
#endif

static struct parser where;
static const struct step *blamed;	/* the step that a failure names */

static int fail_step(const char *what)
{
	where.line = blamed->line;
	return parse_fail(&where, "%s", what);
}

bool step_has_region(const struct step *s)
{
	return s->verb >= V_MAP && s->verb <= V_USERFAULT;
}

static bool has_other(const struct step *s)
{
	return s->verb == V_REMAP || s->verb == V_MAP_ANONYMOUS;
}

/* Numbers as the program has them become indices in the same order. */
static int number_regions(struct rb_error *error)
{
	size_t size = MAX_REGIONS * sizeof(uint32_t);
	uint32_t *index = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);

	if (index == MAP_FAILED)
		return rb_fail(error, RB_UNSUPPORTED, 0, "", "There is no memory for a program.");
	for (uint32_t i = 0; i < program.count; i++) {
		if (step_has_region(&program.steps[i]))
			index[program.steps[i].region] = 1;
		if (has_other(&program.steps[i]))
			index[program.steps[i].other] = 1;
	}
	for (uint32_t i = 0; i < MAX_REGIONS; i++)
		if (index[i])
			index[i] = program.region_count++;
	for (uint32_t i = 0; i < program.count; i++) {
		program.steps[i].region = index[program.steps[i].region];
		program.steps[i].other = index[program.steps[i].other];
	}
	return munmap(index, size);
}

static int grow(uint32_t number, uint64_t size, bool anonymous)
{
	struct region *r = &program.regions[number];

	if (size % context.page_size)
		return fail_step("the size is not a multiple of the page size");
	if (!size)
		return fail_step("the new length is 0");
	if (anonymous && size > UNIT)
		return fail_step("an anonymous region is larger than " UNIT_TEXT);
	if (r->most && r->anonymous != anonymous)
		return fail_step("a region is mapped both anonymously and by the mechanism");
	r->anonymous = anonymous;
	if (size > r->most)
		r->most = size;
	return 0;
}

static int find_sizes(void)
{
	for (uint32_t i = 0; i < program.count; i++) {
		const struct step *s = blamed = &program.steps[i];
		int rc = 0;

		if (s->verb == V_MAP || s->verb == V_MAP_ANONYMOUS)
			rc = grow(s->region, s->length, s->verb == V_MAP_ANONYMOUS);
		else if (s->verb == V_REMAP)
			rc = grow(s->other, s->size, false);
		if (rc)
			return -1;
	}
	return 0;
}

/* Every range lies in its region, and every region is mapped somewhere. */
static int check_ranges(void)
{
	for (uint32_t i = 0; i < program.count; i++) {
		const struct step *s = blamed = &program.steps[i];
		uint64_t most;

		if (!step_has_region(s))
			continue;
		most = program.regions[s->region].most;
		if (!most || (has_other(s) && !program.regions[s->other].most))
			return fail_step("the region is never mapped");
		if (s->verb != V_MAP && s->verb != V_MAP_ANONYMOUS &&
		    (s->offset > most || s->length > most - s->offset))
			return fail_step("the range ends behind its region");
	}
	return 0;
}

/*
 * Where slots end: an eighth below the stack, which lies at the top of the address space whatever
 * its size is (39 bits on many arm64 devices), with the kernel's own choices of place below it.
 */
static uint64_t past_slots(void)
{
	uint64_t top = (uint64_t)(uintptr_t)__builtin_frame_address(0);

	return (top - top / 8) & ~(UNIT - 1);
}

static int place_regions(struct rb_error *error)
{
	uint64_t past = past_slots();
	uint64_t at = FIRST_SLOT;

	for (uint32_t i = 0; i < program.region_count; i++) {
		struct region *r = &program.regions[i];
		uint64_t slot = ((r->most + UNIT - 1) & ~(UNIT - 1)) + UNIT;

		if (r->anonymous)
			continue;
		if (r->most > past || slot > past - at)
			return rb_fail_limit(error, at - FIRST_SLOT + slot, past - FIRST_SLOT,
					     "Use fewer or smaller regions.",
					     "The regions need more address space than there is.");
		r->base = (unsigned char *)(uintptr_t)at;
		at += slot;
	}
	return 0;
}

int program_place(const char *path, struct rb_error *error)
{
	where = (struct parser){ .source = path, .error = error };
	if (number_regions(error))
		return -1;
	if (!program.region_count)
		return 0;
	program.regions = area_new(program.region_count * sizeof(*program.regions), false);
	if (!program.regions)
		return rb_fail(error, RB_UNSUPPORTED, 0, "", "There is no memory for a program.");
	return find_sizes() || check_ranges() || place_regions(error) ? -1 : 0;
}
