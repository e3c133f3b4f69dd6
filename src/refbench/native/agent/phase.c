/* SPDX-License-Identifier: MIT */
/* Phases: at a switch the clock and the usage of the process are read, and nothing else. */
#include "agent.h"

#include <sys/resource.h>
#include <time.h>

struct reading {
	struct rusage usage;
	uint64_t syscalls, sigbus, sigsegv, uffd_messages;
};

static struct {
	int id;
	uint64_t ns;
	struct reading since;
} current = { .id = -1 };

uint64_t now_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t))
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t load(atomic_uint_least64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void read_usage(struct reading *r)
{
	/* RUSAGE_SELF into our own memory cannot fail. */
	(void)getrusage(RUSAGE_SELF, &r->usage);
	r->syscalls = load(&shared->counters.syscalls);
	r->sigbus = load(&shared->counters.sigbus);
	r->sigsegv = load(&shared->counters.sigsegv);
	r->uffd_messages = load(&shared->counters.uffd_messages);
}

static uint64_t span(struct timeval from, struct timeval to)
{
	int64_t us = (to.tv_sec - from.tv_sec) * 1000000ll + (to.tv_usec - from.tv_usec);

	return us > 0 ? (uint64_t)us * 1000u : 0;
}

static void add(struct phase_total *t, uint64_t ns, const struct reading *from,
		const struct reading *to)
{
	t->ns += ns;
	t->user_ns += span(from->usage.ru_utime, to->usage.ru_utime);
	t->system_ns += span(from->usage.ru_stime, to->usage.ru_stime);
	t->minor_faults += (uint64_t)(to->usage.ru_minflt - from->usage.ru_minflt);
	t->major_faults += (uint64_t)(to->usage.ru_majflt - from->usage.ru_majflt);
	t->syscalls += to->syscalls - from->syscalls;
	t->sigbus += to->sigbus - from->sigbus;
	t->sigsegv += to->sigsegv - from->sigsegv;
	t->uffd_messages += to->uffd_messages - from->uffd_messages;
}

/* The clock is read first when a part ends and last when one starts. */
static void change(int id)
{
	uint64_t end = current.id >= 0 ? now_ns() : 0;
	static struct reading at;

	read_usage(&at);
	if (current.id >= 0)
		add(&shared->phases[current.id], end - current.ns, &current.since, &at);
	current.id = id;
	if (id < 0)
		return;
	current.since = at;
	current.ns = now_ns();
}

void phase_enter(int id)
{
	if (id >= 0)
		shared->phases[id].entries++;
	change(id);
}

int phase_stop(void)
{
	int id = current.id;

	change(-1);
	return id;
}

void phase_go(int id)
{
	if (id >= 0)
		change(id);
}

/* In a forked child: what the parent was in is the parent's. */
void phase_forget(void)
{
	current.id = -1;
}
