/* SPDX-License-Identifier: MIT */
/* Checking what memory holds, and what becomes of the answer. */
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PIECE 256

struct observation *observations;
uint32_t observation_slots;

static unsigned char wanted_at(const struct step *s, uint64_t offset)
{
	if (s->content == C_BYTE)
		return s->value;
	if (s->content == C_ZERO || !mechanism->applies_pattern)
		return 0;
	return context.pattern.page[offset % context.page_size];
}

static void wrong(struct observation *seen, uint64_t offset, unsigned char got,
		  unsigned char wanted)
{
	if (!seen->errors++) {
		seen->offset = offset;
		seen->got = got;
		seen->wanted = wanted;
	}
	seen->ok = false;
}

/* Bytes that were read at an offset of the region. */
__attribute__((noinline)) void check_bytes(struct check *check, uint64_t offset,
					   const unsigned char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		unsigned char wanted = wanted_at(check->step, offset + i);

		if (bytes[i] != wanted)
			wrong(&check->seen, offset + i, bytes[i], wanted);
	}
}

/* Bytes that are nowhere to be read. */
void check_missing(struct check *check, uint64_t offset, uint64_t count)
{
	if (!count)
		return;
	wrong(&check->seen, offset, 0, wanted_at(check->step, offset));
	check->seen.errors += count - 1;
}

void detail_set(struct observation *seen, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (vsnprintf(seen->detail, sizeof(seen->detail), format, args) < 0)
		seen->detail[0] = '\0';
	va_end(args);
}

struct observation observation_of(const struct step *s)
{
	struct observation seen;

	memset(&seen, 0, sizeof(seen));
	seen.line = s->line;
	seen.verb = s->verb;
	seen.ok = true;
	return seen;
}

void observe_trap(struct observation *seen, const struct region *region, const struct trap *trap)
{
	seen->ok = false;
	seen->trapped = true;
	seen->err = EFAULT;
	seen->offset = trap->address - (uintptr_t)region->base;
	if (trap->address < (uintptr_t)region->base)
		seen->offset = 0;
	detail_set(seen, "%s at %#llx, offset %llu",
		   trap->signal == SIGBUS ? "SIGBUS" : "SIGSEGV",
		   (unsigned long long)trap->address, (unsigned long long)seen->offset);
}

/* The first reason wins; everybody who runs steps looks at `stopped` before each. */
int run_stop(const struct rb_error *error)
{
	int running = 0;

	if (atomic_compare_exchange_strong(&shared->stopped, &running, 1))
		shared->error = *error;
	return -1;
}

/* A handler that splits a VMA for every page, as segv's does, may meet that wall in a touch. */
static bool no_vma_left(void)
{
	int64_t most = rb_read_number("/proc/sys/vm/max_map_count");

	return most > 0 && rb_count_vmas() >= most - 2;
}

static void explain(const struct observation *seen, struct rb_error *error)
{
	const char *verb = verb_names[seen->verb];

	if (seen->trapped && no_vma_left())
		rb_fail_map(error, context.page_size, ENOMEM);
	else if (seen->trapped)
		rb_fail(error, RB_WRONG_CONTENT, seen->err, "",
			"Line %u, %s: %s, and nobody resolved it.", seen->line, verb, seen->detail);
	else if (seen->errors)
		rb_fail(error, RB_WRONG_CONTENT, seen->err, "",
			"Line %u, %s: %llu bytes are wrong; the first, at offset %llu, is 0x%02x "
			"instead of 0x%02x.%s%s", seen->line, verb,
			(unsigned long long)seen->errors, (unsigned long long)seen->offset,
			seen->got, seen->wanted, *seen->detail ? " " : "", seen->detail);
	else if (seen->err)
		rb_fail(error, RB_UNSUPPORTED, seen->err, "",
			"Line %u, %s: the kernel refused: %s.%s%s", seen->line, verb,
			strerror(seen->err), *seen->detail ? " " : "", seen->detail);
	else
		rb_fail(error, seen->verb == V_FORK || seen->verb == V_KERNEL_LOG ||
			seen->verb == V_DESCRIPTORS ?
			RB_WRONG_CONTENT : RB_UNSUPPORTED, 0, "", "Line %u, %s: %s.", seen->line,
			verb, seen->detail);
	if (!strncmp(seen->detail, "unavailable:", 12))
		error->kind = RB_UNSUPPORTED;
}

/* Whether a line has been seen to come out well, or badly, in this sample. */
static bool is_known(const struct observation *seen, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (observations[i].line == seen->line && observations[i].ok == seen->ok)
			return true;
	return false;
}

/*
 * Keep an outcome, or end the run when it is bad and the program does not ask for all.
 * A `loop` may make more of them than there are slots: when half of them are taken, a line's
 * first good and first bad outcome are kept, and nothing else.
 */
int observe(const struct observation *seen)
{
	struct rb_error error;
	unsigned int slot;

	if (!program.observe_all) {
		if (seen->ok)
			return 0;
		explain(seen, &error);
		return run_stop(&error);
	}
	slot = atomic_load(&shared->observed);
	if (slot >= MAX_OBSERVATIONS / 2 && observation_slots == MAX_OBSERVATIONS &&
	    is_known(seen, slot < observation_slots ? slot : observation_slots))
		return 0;
	slot = atomic_fetch_add(&shared->observed, 1);
	if (slot < observation_slots)
		observations[slot] = *seen;
	return 0;
}

struct look {
	struct check check;
	const struct region *region;
};

/* What is compared is a copy: memory that another thread still fills is looked at once. */
static void look(void *argument)
{
	struct look *l = argument;
	const struct step *s = l->check.step;
	const volatile unsigned char *base = l->region->base;
	unsigned char piece[PIECE];
	uint64_t end = s->offset + s->length;

	for (uint64_t at = s->offset; at < end;) {
		size_t count = 0;

		while (s->stride == 1 && count < PIECE && at + count < end) {
			piece[count] = base[at + count];
			count++;
		}
		if (s->stride > 1)
			piece[count++] = base[at];
		check_bytes(&l->check, at, piece, count);
		if (s->stride > end - at)
			break;
		at += s->stride == 1 ? count : s->stride;
	}
}

int expect_run(const struct step *s)
{
	struct look l = {
		.check = { s, observation_of(s) },
		.region = &program.regions[s->region],
	};
	struct trap trap;

	if (s->flag && sample_index)
		return 0;
	guard_run(look, &l, &trap);
	if (trap.signal)
		observe_trap(&l.check.seen, l.region, &trap);
	return observe(&l.check.seen);
}
