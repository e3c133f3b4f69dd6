/* SPDX-License-Identifier: MIT */
/*
 * Arena 0 of jemalloc is its own: the records of threads are in it, written behind our back. The
 * program's threads share others in turn. Blocks above oversize_threshold have arenas that are
 * purged at once, as jemalloc would give them; its own for them takes no hooks. And fork(2),
 * between jemalloc's own handlers.
 */
#include "interposer.h"
#include "jemalloc.h"

#include <pthread.h>
#include <string.h>

__thread bool rb_joined __attribute__((tls_model("initial-exec")));

__thread bool rb_inside __attribute__((tls_model("initial-exec")));

bool rb_step_inside(void)
{
	bool joined = rb_joined;

	rb_joined = false;
	rb_inside = true;
	return joined;
}

void rb_step_out(bool joined)
{
	rb_inside = false;
	rb_joined = joined;
}

static unsigned int arenas;	/* 1 .. arenas - 1 are the program's threads' */
static unsigned int large[2];	/* for large blocks, without and with zeroes ... */
static size_t large_least;	/* ... of so many bytes */
static unsigned int zeroes;	/* for blocks with zeroes that threads do not cache ... */
static size_t cached_most;	/* ... above so many bytes */
static size_t arena_mib[2];
static size_t arena_mib_length = 2;
static atomic_uint turn;
static pthread_key_t ending;

void rb_join(void)
{
	unsigned int arena =
		1 + atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) % (arenas - 1);

	rb_joined = true;
	/* It cannot fail for an arena that exists; without it the memory is arena 0's: reused. */
	(void)rbje_mallctlbymib(arena_mib, arena_mib_length, NULL, NULL, &arena, sizeof(arena));
	(void)pthread_setspecific(ending, &rb_joined);
	RB_RECORD(thread_began);
}

static void end_thread(void *unused)
{
	(void)unused;
	rb_handout_flush();
	RB_RECORD(thread_ended);
}

static void before_fork(void)
{
	struct rb_error error = { .kind = RB_OK };

	if (rb_mechanism->before_fork && rb_mechanism->before_fork(&rb_context, &error))
		rb_refuse(&error);
	RB_RECORD(before_fork);
}

static void after_fork_parent(void)
{
	RB_RECORD(after_fork_parent);
}

static void after_fork_child(void)
{
	struct rb_error error = { .kind = RB_OK };
	bool joined;

	rb_context.pattern_lost = false;
	joined = rb_step_inside();
	if (rb_mechanism->after_fork_child && rb_mechanism->after_fork_child(&rb_context, &error))
		rb_refuse(&error);
	rb_step_out(joined);
	if (rb_context.pattern_lost)
		rb_backing_forget_fresh();
	RB_RECORD(after_fork_child);
}

static int fail(struct rb_error *error, const char *what, int err)
{
	return rb_fail(error, RB_UNSUPPORTED, err, "It needs jemalloc 5.3 and glibc.",
		       "%s could not be set up: %s.", what, strerror(err));
}

int rb_place(size_t size, bool zero)
{
	/* jemalloc compares the size class, which is less than twice what was asked for. */
	if (RB_UNLIKELY(large_least && size > large_least / 2 &&
			(size > PTRDIFF_MAX || rbje_nallocx(size, 0) >= large_least)))
		return RBJE_ARENA(large[zero]) | RBJE_NO_CACHE;
	return zero && size > cached_most ? RBJE_ARENA(zeroes) | RBJE_NO_CACHE : 0;
}

static int read_settings(struct rb_error *error)
{
	size_t length = sizeof(arenas);
	size_t size_length = sizeof(size_t);
	int err = rbje_mallctl("opt.narenas", &arenas, &length, NULL, 0);

	if (!err)
		err = rbje_mallctl("opt.oversize_threshold", &large_least, &size_length, NULL, 0);
	if (!err)
		err = rbje_mallctl("arenas.tcache_max", &cached_most, &size_length, NULL, 0);
	if (!err)
		err = rbje_mallctlnametomib("thread.arena", arena_mib, &arena_mib_length);
	if (err)
		return fail(error, "jemalloc", err);
	if (arenas < 2)
		return rb_fail(error, RB_USAGE, 0, "Set narenas to 2 or more.",
			       "narenas:%u leaves the program no arena; 0 is jemalloc's own.",
			       arenas);
	return 0;
}

int rb_threads_start(struct rb_error *error)
{
	int err;

	if (read_settings(error))
		return -1;
	for (unsigned int i = 1; i < arenas; i++)
		if (rb_backing_take(i, error))
			return -1;
	if (rb_backing_make(false, true, &large[0], error) ||
	    rb_backing_make(true, true, &large[1], error) ||
	    rb_backing_make(true, false, &zeroes, error))
		return -1;
	err = pthread_key_create(&ending, end_thread);
	if (err)
		return fail(error, "The end of threads", err);
	/* After jemalloc's: in a child ours run when it can hand out again. */
	err = pthread_atfork(before_fork, after_fork_parent, after_fork_child);
	return err ? fail(error, "Forking", err) : 0;
}
