/* SPDX-License-Identifier: MIT */
/*
 * fork: parent and child take turns by bytes through two pipes. A child that dies closes its
 * end, so nobody waits for ever; a child whose parent dies is killed by the kernel.
 *
 *	child: ... go, its mechanism's part, ready, ... go, its block, done, ... exit
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Descriptors of every conversation that this process has; a child closes what it inherits. */
static int open_fds[4 * (MAX_DEPTH + 1)];
static int open_count;

struct talk {
	int from_child[2];
	int to_child[2];
	pid_t child;
};

static void end_process(void)
{
	_exit(1);
}

static void note(int fd)
{
	open_fds[open_count++] = fd;
}

static void forget(int fd)
{
	for (int i = 0; i < open_count; i++) {
		if (open_fds[i] == fd) {
			open_fds[i] = open_fds[--open_count];
			break;
		}
	}
	if (close(fd))
		end_process();
}

static void close_inherited(void)
{
	while (open_count)
		if (close(open_fds[--open_count]))
			end_process();
}

static void say(int fd)
{
	/* A listener that is gone is noticed by whoever waits for its answer. */
	while (write(fd, "", 1) < 0 && errno == EINTR)
		;
}

/* Whether the other side is still there. */
static bool hear(int fd)
{
	char byte;
	ssize_t got;

	do
		got = read(fd, &byte, 1);
	while (got < 0 && errno == EINTR);
	return got == 1;
}

/* fork(2) with what the mechanism does before. 0 in the child. -1 with *error. */
pid_t fork_child(struct rb_error *error)
{
	pid_t parent = getpid();
	pid_t child;

	if (mechanism->before_fork && mechanism->before_fork(&context, error))
		return -1;
	rb_count(&shared->counters.syscalls);
	child = fork();
	if (child < 0)
		return rb_fail(error, RB_LIMIT_HIT, errno,
			       "Raise ulimit -u, pids.max of the cgroup, or the memory.",
			       "fork failed: %s.", strerror(errno));
	if (child)
		return child;
	phase_forget();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		end_process();
	return 0;
}

/* In the child: what the mechanism does there, as a phase of its own. */
int fork_after(struct rb_error *error)
{
	int rc;

	if (!mechanism->after_fork_child)
		return 0;
	area_prefault();
	phase_enter(PHASE_ATFORK);
	rc = mechanism->after_fork_child(&context, error);
	phase_enter(-1);
	return rc;
}

static int open_talk(struct talk *talk, struct rb_error *error)
{
	if (pipe2(talk->from_child, O_CLOEXEC))
		return rb_fail(error, RB_LIMIT_HIT, errno, "Raise ulimit -n.", "pipe failed: %s.",
			       strerror(errno));
	if (!pipe2(talk->to_child, O_CLOEXEC))
		return 0;
	if (close(talk->from_child[0]) || close(talk->from_child[1]))
		end_process();
	return rb_fail(error, RB_LIMIT_HIT, errno, "Raise ulimit -n.", "pipe failed: %s.",
		       strerror(errno));
}

static void run_child(const struct talk *talk, uint32_t at)
{
	static const struct task alone = { 0, 0 };
	const struct step *s = &program.steps[at];
	struct rb_error error;

	close_inherited();
	if (close(talk->from_child[0]) || close(talk->to_child[1]))
		end_process();
	note(talk->from_child[1]);
	note(talk->to_child[0]);
	/* The counters are shared: the parent must have left its phase before they move on. */
	if (!hear(talk->to_child[0]))
		end_process();
	if (fork_after(&error))
		run_stop(&error);
	area_prefault();
	say(talk->from_child[1]);
	if (!hear(talk->to_child[0]))
		end_process();
	/* What stops the run is in `shared`; the parent looks there. */
	(void)block_run(&alone, at + 1, s->middle);
	(void)phase_stop();
	say(talk->from_child[1]);
	(void)hear(talk->to_child[0]);
	_exit(0);
}

/* The child's block, while the parent's clock stands. */
static bool let_child_run(const struct talk *talk)
{
	say(talk->to_child[1]);
	return hear(talk->from_child[0]);
}

static int observe_death(const struct step *s, int status)
{
	struct observation seen = observation_of(s);
	struct rb_error error;

	seen.ok = false;
	if (!WIFSIGNALED(status))
		detail_set(&seen, "the child ended with status %d", WEXITSTATUS(status));
	else
		detail_set(&seen, "the child was killed by signal %d (%s)", WTERMSIG(status),
			   strsignal(WTERMSIG(status)));
	if (!program.observe_all && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		rb_fail(&error, RB_LIMIT_HIT, 0, "Give it more memory, or a smaller size.",
			"Line %u, fork: the child was killed, as for lack of memory.", s->line);
		return run_stop(&error);
	}
	return observe(&seen);
}

/* Blocks in the order that the step asks for. Returns whether the child lived through its own. */
static bool take_turns(const struct talk *talk, uint32_t at, int phase)
{
	static const struct task alone = { 0, 0 };
	const struct step *s = &program.steps[at];
	bool lives = let_child_run(talk);

	if (!s->flag && lives)
		lives = let_child_run(talk);
	phase_go(phase);
	/* Why it stopped, if it did, is in `shared`. */
	(void)block_run(&alone, s->middle, s->end);
	if (s->flag && lives) {
		phase = phase_stop();
		lives = let_child_run(talk);
		phase_go(phase);
	}
	return lives;
}

int fork_run(uint32_t at)
{
	const struct step *s = &program.steps[at];
	struct rb_error error;
	struct talk talk;
	int phase = phase_stop();
	int status;
	bool lives;

	if (open_talk(&talk, &error))
		return run_stop(&error);
	phase_go(phase);
	talk.child = fork_child(&error);
	if (!talk.child)
		run_child(&talk, at);
	phase = phase_stop();
	if (close(talk.from_child[1]) || close(talk.to_child[0]))
		end_process();
	note(talk.from_child[0]);
	note(talk.to_child[1]);
	area_prefault();
	lives = talk.child > 0 && take_turns(&talk, at, phase);
	if (talk.child > 0) {
		say(talk.to_child[1]);
		while (waitpid(talk.child, &status, 0) < 0)
			if (errno != EINTR)
				end_process();
		phase = phase_stop();
	} else {
		run_stop(&error);
		status = 0;
	}
	forget(talk.from_child[0]);
	forget(talk.to_child[1]);
	if (talk.child > 0 && (!lives || status) && observe_death(s, status))
		return -1;
	phase_go(phase);
	return atomic_load(&shared->stopped) ? -1 : 0;
}
