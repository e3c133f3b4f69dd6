/* SPDX-License-Identifier: MIT */
/* The executor: one sample, block by block, step by step. */
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

uint64_t sample_index;

static int fail_step(const struct step *s, enum rb_failure kind, int err, const char *what)
{
	struct rb_error error;

	rb_fail(&error, kind, err, "", "Line %u, %s: %s%s%s.", s->line, verb_names[s->verb], what,
		err ? ": " : "", err ? strerror(err) : "");
	return run_stop(&error);
}

static int map_run(const struct step *s)
{
	struct region *r = &program.regions[s->region];
	bool plain = s->choice;
	struct rb_error error;

	if (r->size)
		return fail_step(s, RB_USAGE, 0, "the region is mapped already");
	if (!(plain ? rb_map_anonymous : mechanism->map)(&context, r->base, s->length,
							 s->flag ? RB_MAP_POPULATE : 0, &error))
		return run_stop(&error);
	r->size = s->length;
	r->mechanism = !plain;
	r->used = true;
	return 0;
}

static int unmap_run(const struct step *s)
{
	struct region *r = &program.regions[s->region];
	uint64_t length = s->length;

	if (!length)
		length = r->size > s->offset ? r->size - s->offset : 0;
	if (!length)
		return fail_step(s, RB_USAGE, 0, "the region is not mapped there");
	if (r->mechanism && mechanism->forget)
		mechanism->forget(&context, r->base + s->offset, length);
	if (rb_munmap(&context, r->base + s->offset, length))
		return fail_step(s, RB_LIMIT_HIT, errno, "the kernel refused");
	if (!s->offset && length >= r->size)
		r->size = 0;
	return 0;
}

/* The outcome of a system call that the program only asks about. */
static int observe_call(const struct step *s, bool failed, const char *detail)
{
	struct observation seen = observation_of(s);

	if (failed) {
		seen.ok = false;
		seen.err = errno;
		detail_set(&seen, "%s", detail);
	}
	return observe(&seen);
}

static int map_anonymous_run(const struct step *s)
{
	const struct region *after = &program.regions[s->other];
	struct region *r = &program.regions[s->region];
	void *got;

	if (r->size || !after->size)
		return fail_step(s, RB_USAGE, 0, r->size ? "the region is mapped already"
							 : "the region before it is not mapped");
	r->base = after->base + after->size;
	got = rb_mmap(&context, r->base, s->length, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (got != MAP_FAILED) {
		r->size = s->length;
		r->mechanism = false;
		r->used = true;
	}
	return observe_call(s, got == MAP_FAILED, "");
}

static int lock_run(const struct step *s)
{
	unsigned char *at = program.regions[s->region].base + s->offset;

	rb_count(&context.counters->syscalls);
	return observe_call(s, s->verb == V_LOCK ? mlock(at, s->length) : munlock(at, s->length),
			    "");
}

static int remap_run(const struct step *s)
{
	struct region *from = &program.regions[s->region];
	struct region *to = &program.regions[s->other];
	void *got;

	if (to->size)
		return fail_step(s, RB_USAGE, 0, "the target is mapped already");
	rb_count(&context.counters->syscalls);
	got = mremap(from->base + s->offset, s->length, s->size, MREMAP_MAYMOVE | MREMAP_FIXED,
		     to->base);
	if (got != MAP_FAILED) {
		to->size = s->size;
		to->mechanism = from->mechanism;
		to->used = true;
		if (!s->offset && s->length >= from->size)
			from->size = 0;
	}
	return observe_call(s, got == MAP_FAILED, "");
}

static int settle_run(void)
{
	struct rb_error error;

	if (!mechanism->settle)
		merging_settle();
	else if (mechanism->settle(&context, &error))
		return run_stop(&error);
	return 0;
}

static int repeat_run(const struct task *task, uint32_t at)
{
	const struct step *s = &program.steps[at];

	for (uint64_t i = 0; i < s->count; i++)
		if (block_run(task, at + 1, s->end))
			return -1;
	return 0;
}

/* Steps that the clock does not see. Threads have no clock of their own to stop. */
static int run_unseen(const struct task *task, const struct step *s)
{
	int phase = task->count ? -1 : phase_stop();
	int rc;

	switch (s->verb) {
	case V_MEASURE:
		memory_measure(s->choice, 0);
		rc = 0;
		break;
	case V_EXPECT:
		rc = expect_run(s);
		break;
	case V_KERNEL_READS:
		rc = kernel_reads_run(s);
		break;
	case V_KERNEL_WRITES:
		rc = kernel_writes_run(s);
		break;
	case V_USERFAULT:
		rc = userfault_run(s);
		break;
	case V_DESCRIPTORS:
		rc = descriptors_run(s);
		break;
	case V_KERNEL_LOG:
		rc = kernel_log_run(s);
		break;
	default:
		rc = settle_run();
	}
	phase_go(phase);
	return rc;
}

static int step_run(const struct task *task, uint32_t at)
{
	const struct step *s = &program.steps[at];
	unsigned char *base = program.regions ? program.regions[s->region].base : NULL;

	/* What map-anonymous has not placed yet is nowhere; address 0 upward is the agent itself. */
	if (!base && step_has_region(s) && s->verb != V_MAP_ANONYMOUS)
		return fail_step(s, RB_USAGE, 0, "the region has never been mapped");
	switch (s->verb) {
	case V_PHASE:
		phase_enter(s->choice);
		return 0;
	case V_MAP:
		return map_run(s);
	case V_MAP_ANONYMOUS:
		return map_anonymous_run(s);
	case V_UNMAP:
		return unmap_run(s);
	case V_TOUCH:
		return touch_run(task, s);
	case V_HANDOUT:
		return handout_run(s);
	case V_ADVISE:
		merging_note(s);
		return observe_call(s, rb_madvise(&context, base + s->offset, s->length,
						  s->choice), "");
	case V_PROTECT:
		return observe_call(s, rb_mprotect(&context, base + s->offset, s->length,
						   s->choice), "");
	case V_LOCK:
	case V_UNLOCK:
		return lock_run(s);
	case V_REMAP:
		return remap_run(s);
	case V_REFERENCE:
		return reference_run(s);
	case V_EXECUTE:
		return execute_run(s);
	case V_REPEAT:
		return repeat_run(task, at);
	case V_FORK:
		return fork_run(at);
	case V_PARALLEL:
		return parallel_run(at);
	default:
		return run_unseen(task, s);
	}
}

/* Steps [from, to). -1 when the run is over, for whatever reason `shared` has. */
int block_run(const struct task *task, uint32_t from, uint32_t to)
{
	while (from < to) {
		if (atomic_load_explicit(&shared->stopped, memory_order_relaxed))
			return -1;
		if (step_run(task, from))
			return -1;
		from = program.steps[from].end;
	}
	return 0;
}

/* What the program left mapped. */
static void clear_regions(void)
{
	for (uint32_t i = 0; i < program.region_count; i++) {
		struct region *r = &program.regions[i];

		if (r->size && r->mechanism && mechanism->forget)
			mechanism->forget(&context, r->base, r->size);
		if (r->used && munmap(r->base, r->most))
			fail_step(&program.steps[0], RB_LIMIT_HIT, errno,
				  "a region could not be unmapped at the end");
		r->size = 0;
		r->mechanism = false;
		r->used = false;
	}
}

static int set_up(void)
{
	struct rb_error error;

	memset(context.private_words, 0, sizeof(context.private_words));
	context.unprivileged = false;
	if (mechanism->setup(&context, &error))
		return run_stop(&error);
	return 0;
}

static void report_agent(void)
{
	char facts[512] = "";

	if (mechanism->facts && !atomic_load(&shared->stopped))
		mechanism->facts(&context, facts, sizeof(facts));
	out_agent(facts);
}

/* One sample, printed. -1: the run is over, and `shared` has the reason. */
int sample_run(void)
{
	static const struct task alone = { 0, 0 };
	int rc;

	memset(shared->phases, 0, sizeof(shared->phases));
	memset(shared->memory, 0, sizeof(shared->memory));
	atomic_store(&shared->observed, 0);
	merging_forget();
	execute_forget();
	if (area_note_setup(false))
		return fail_step(&program.steps[0], RB_UNSUPPORTED, errno,
				 "/proc/self/maps cannot be read");
	area_prefault();
	if (memory_start())
		return fail_step(&program.steps[0], RB_UNSUPPORTED, 0,
				 "/proc/self/clear_refs cannot be written");
	memory_measure(0, 0);
	phase_enter(PHASE_SETUP);
	rc = set_up();
	phase_enter(-1);
	if (!sample_index)
		report_agent();
	if (rc)
		return -1;
	if (area_note_setup(true))
		return fail_step(&program.steps[0], RB_UNSUPPORTED, errno,
				 "/proc/self/maps cannot be read");
	if (program.count)
		rc = block_run(&alone, 0, program.count);
	phase_enter(-1);
	clear_regions();
	if (mechanism->teardown)
		mechanism->teardown(&context);
	reference_forget();
	if (rc || atomic_load(&shared->stopped))
		return -1;
	out_sample();
	return out_flush();
}
