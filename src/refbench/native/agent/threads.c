/* SPDX-License-Identifier: MIT */
/*
 * Groups of threads. They are made, and their stacks faulted in, while the clock stands; it
 * runs from the barrier until the last thread is done.
 */
#include "agent.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK_BYTES (128u << 10)
#define SIGNAL_BYTES (32u << 10)
#define SLOT_BYTES (STACK_BYTES + SIGNAL_BYTES)
#define SPINS 2000

struct worker {
	pthread_t id;
	struct task task;
	uint32_t at;		/* the threads step */
	unsigned char *slot;	/* its signal stack, then its stack */
};

static struct worker *workers;
static unsigned char *slots;
static atomic_uint ready, go, running, bounded;
static int spins;

int threads_prepare(struct rb_error *error)
{
	cpu_set_t cpus;

	if (!program.threads)
		return 0;
	workers = area_new(program.threads * sizeof(*workers), false);
	slots = area_new((size_t)program.threads * SLOT_BYTES, false);
	if (!workers || !slots)
		return rb_fail(error, RB_LIMIT_HIT, errno, "Use fewer threads.",
			       "There is no memory for the stacks of %u threads.",
			       program.threads);
	if (!sched_getaffinity(0, sizeof(cpus), &cpus) && CPU_COUNT(&cpus) > 1)
		spins = SPINS;
	return 0;
}

static void wait_until(atomic_uint *word, unsigned int wanted)
{
	unsigned int seen;

	for (int i = 0; i < spins; i++)
		if (atomic_load(word) == wanted)
			return;
	while ((seen = atomic_load(word)) != wanted)
		/* It fails when the word has changed already: that is looked at next. */
		(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void wake_all(atomic_uint *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, MAX_THREADS, NULL, NULL, 0);
}

static bool is_over(void)
{
	return !atomic_load(&bounded) || atomic_load(&shared->stopped);
}

static void *work(void *argument)
{
	struct worker *w = argument;
	const struct step *s = &program.steps[w->at];

	if (guard_thread(w->slot, SIGNAL_BYTES))
		_exit(1);
	area_prefault_slot(w->slot, SLOT_BYTES);
	atomic_fetch_add(&ready, 1);
	wake_all(&ready);
	wait_until(&go, 1);
	do {
		if (block_run(&w->task, w->at + 1, s->end))
			break;
	} while (s->flag && !is_over());
	if (!s->flag)
		atomic_fetch_sub(&bounded, 1);
	if (atomic_fetch_sub(&running, 1) == 1)
		wake_all(&running);
	return NULL;
}

static int start(struct worker *w, uint32_t at, struct task task, struct rb_error *error)
{
	pthread_attr_t attributes;
	int rc = pthread_attr_init(&attributes);

	w->at = at;
	w->task = task;
	w->slot = slots + (size_t)(w - workers) * SLOT_BYTES;
	if (!rc)
		rc = pthread_attr_setstack(&attributes, w->slot + SIGNAL_BYTES, STACK_BYTES);
	if (!rc)
		rc = pthread_create(&w->id, &attributes, work, w);
	if (rc)
		return rb_fail(error, RB_LIMIT_HIT, rc, "Use fewer threads, or raise ulimit -u.",
			       "A thread could not be started: %s.", strerror(rc));
	rc = pthread_attr_destroy(&attributes);
	return rc ? rb_fail(error, RB_LIMIT_HIT, rc, "", "pthread_attr_destroy failed.") : 0;
}

/* All workers of all groups; how many there are, even if not all that there should be. */
static uint32_t start_all(uint32_t at, struct rb_error *error)
{
	uint32_t count = 0;

	for (uint32_t i = at + 1; i < program.steps[at].end; i = program.steps[i].end) {
		const struct step *group = &program.steps[i];

		for (uint32_t t = 0; t < group->count; t++) {
			struct task task = { t, (uint32_t)group->count };

			if (start(&workers[count], i, task, error)) {
				run_stop(error);
				return count;
			}
			count++;
			atomic_fetch_add(&running, 1);
			if (!group->flag)
				atomic_fetch_add(&bounded, 1);
		}
	}
	return count;
}

int parallel_run(uint32_t at)
{
	struct rb_error error;
	int phase = phase_stop();
	uint32_t count;

	atomic_store(&ready, 0);
	atomic_store(&go, 0);
	atomic_store(&running, 0);
	atomic_store(&bounded, 0);
	count = start_all(at, &error);
	for (unsigned int seen; (seen = atomic_load(&ready)) != count;)
		(void)syscall(SYS_futex, &ready, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	phase_go(phase);
	atomic_store(&go, 1);
	wake_all(&go);
	wait_until(&running, 0);
	phase = phase_stop();
	for (uint32_t i = 0; i < count; i++)
		if (pthread_join(workers[i].id, NULL))
			_exit(1);
	phase_go(phase);
	return atomic_load(&shared->stopped) ? -1 : 0;
}
