/* SPDX-License-Identifier: MIT */
/* --probe: does each mechanism work here? Each is tried in a process of its own. */
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE_PAGES 16
#define PROBE_SECONDS 10

static void read_byte(void *argument)
{
	volatile unsigned char **at = argument;

	(void)**at;
}

static void try_here(struct rb_error *error)
{
	size_t size = PROBE_PAGES * context.page_size;
	volatile unsigned char *at;
	struct trap trap;

	if (mechanism->setup(&context, error))
		return;
	at = mechanism->map(&context, NULL, size, 0, error);
	if (!at)
		return;
	guard_run(read_byte, &at, &trap);
	if (trap.signal)
		rb_fail(error, RB_UNSUPPORTED, 0, "", "A clean page cannot be read: %s.",
			strsignal(trap.signal));
	else if (*at != (mechanism->applies_pattern && !mechanism->fills_at_malloc ?
				 context.pattern.page[0] : 0))
		rb_fail(error, RB_UNSUPPORTED, 0, "", "A clean page reads as 0x%02x.", *at);
	else
		error->kind = RB_OK;
	if (mechanism->forget)
		mechanism->forget(&context, (void *)(uintptr_t)at, size);
	if (munmap((void *)(uintptr_t)at, size))
		rb_fail(error, RB_UNSUPPORTED, errno, "", "munmap failed: %s.", strerror(errno));
	if (mechanism->teardown)
		mechanism->teardown(&context);
}

static void child_probes(const char *spec, pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(1);
	alarm(PROBE_SECONDS);
	memset(&shared->probe, 0, sizeof(shared->probe));
	if (!mechanism_choose(spec, &shared->probe))
		try_here(&shared->probe);
	_exit(0);
}

static void probe_one(const char *spec)
{
	pid_t parent = getpid();
	pid_t child;
	int status;

	child = fork();
	if (!child)
		child_probes(spec, parent);
	while (child > 0 && waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			_exit(1);
	if (child < 0)
		rb_fail(&shared->probe, RB_UNSUPPORTED, errno, "", "fork failed: %s.",
			strerror(errno));
	else if (WIFSIGNALED(status))
		rb_fail(&shared->probe, RB_UNSUPPORTED, 0, "", "Trying it ended with signal %d: %s.",
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		rb_fail(&shared->probe, RB_UNSUPPORTED, 0, "", "Trying it failed.");
	out_mechanism(spec, &shared->probe);
}

/* --api tells whether the mechanisms fit this agent, without trying them. */
int probe_all(void)
{
	const struct rb_mechanism *m;

	if (options.mechanism && options.probe) {
		probe_one(options.mechanism);
		return 0;
	}
	for (size_t i = 0; (m = rb_mechanism_at(i)); i++) {
		if (options.probe) {
			probe_one(m->name);
			continue;
		}
		memset(&shared->probe, 0, sizeof(shared->probe));
		context.option_count = 0;
		if (mechanism_choose(m->name, &shared->probe) == 0)
			shared->probe.kind = RB_OK;
		out_mechanism(m->name, &shared->probe);
	}
	return 0;
}
