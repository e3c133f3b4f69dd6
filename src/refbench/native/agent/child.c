/* SPDX-License-Identifier: MIT */
/*
 * A program that is executed: started without a copy of our memory, and followed to its end. It
 * is traced for two moments only, when it begins and when its first thread ends, where its
 * memory is still there. Whatever it leaves running is ended.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_BYTES 65536
#define VALUES_FD 3
#define OPTIONS (PTRACE_O_TRACEEXIT | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

static unsigned char stack[STACK_BYTES] __attribute__((aligned(16)));
static sigset_t inherited;
static char **its_environment;

static int give_up(struct child *child, const char *what)
{
	child->failed = errno;
	child->what = what;
	_exit(127);
}

/* Runs in our memory, while we wait: it may use nothing that it would have to leave as it was. */
static int begin(void *argument)
{
	struct child *child = argument;
	struct sigaction standard;
	int null;

	memset(&standard, 0, sizeof(standard));
	standard.sa_handler = SIG_DFL;
	if (sigaction(SIGPIPE, &standard, NULL) || sigprocmask(SIG_SETMASK, &inherited, NULL))
		return give_up(child, "sigaction");
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		return give_up(child, "prctl");
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		return give_up(child, "ptrace");
	null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(child->complaints, STDERR_FILENO) < 0 || dup2(child->values, VALUES_FD) < 0 ||
	    (null > VALUES_FD && close(null)))
		return give_up(child, "dup2");
	execve(child->argv[0], child->argv, its_environment);
	return give_up(child, "execve");
}

/* On with it, with the signal that it was about to get. One that has died says so by itself. */
static void resume(struct child *child, int signal)
{
	if (ptrace(PTRACE_CONT, child->pid, NULL, (void *)(intptr_t)signal) && errno != ESRCH)
		_exit(1);
}

static void stopped(struct child *child, int status, void (*at_exit)(pid_t))
{
	int signal = WSTOPSIG(status);
	int event = status >> 16;

	if (!child->running) {
		/* The stop that ends its execve(2). */
		child->running = true;
		if (ptrace(PTRACE_SETOPTIONS, child->pid, NULL, (void *)OPTIONS) &&
		    errno != ESRCH)
			_exit(1);
		signal = 0;
	} else if (event == PTRACE_EVENT_EXIT) {
		child->ns += now_ns() - child->began;
		at_exit(child->pid);
		child->began = now_ns();
	}
	/* A program that stops itself would wait for ever: nobody is there to wake it. */
	if (event || signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN ||
	    signal == SIGTTOU)
		signal = 0;
	resume(child, signal);
}

static void reap(struct child *child, void (*at_exit)(pid_t))
{
	struct rusage usage;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG | __WALL, &usage)) > 0) {
		if (pid != child->pid)
			continue;
		if (WIFSTOPPED(status)) {
			stopped(child, status, at_exit);
			continue;
		}
		child->ns += now_ns() - child->began;
		child->status = status;
		child->usage = usage;
		child->ended = true;
		return;
	}
}

/* False: there is nothing now, or nothing more. */
static bool listen_once(int complaints, void (*heard)(const char *, size_t))
{
	char piece[1024];
	ssize_t got = read(complaints, piece, sizeof(piece));

	if (got > 0)
		heard(piece, (size_t)got);
	return got > 0;
}

static void follow(struct child *child, int signals, int complaints, void (*at_exit)(pid_t),
		   void (*heard)(const char *, size_t))
{
	struct pollfd watched[2] = {
		{ .fd = signals, .events = POLLIN }, { .fd = complaints, .events = POLLIN },
	};
	struct signalfd_siginfo info;

	for (reap(child, at_exit); !child->ended; reap(child, at_exit)) {
		if (poll(watched, 2, -1) < 0 && errno != EINTR)
			_exit(1);
		if (watched[0].revents && read(signals, &info, sizeof(info)) < 0 &&
		    errno != EAGAIN)
			_exit(1);
		if (watched[1].revents && !listen_once(complaints, heard))
			watched[1].fd = -1;
	}
	while (listen_once(complaints, heard))
		;
}

/* What it left has become ours. False: nothing is left. */
static bool end_rest(void)
{
	char path[64], *at = shared->text;
	ssize_t got;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, shared->text, TEXT_SIZE - 1);
	if (close(fd) || got <= 0)
		return false;
	shared->text[got] = '\0';
	for (;;) {
		char *end;
		long pid = strtol(at, &end, 10);

		if (end == at || *end != ' ')
			break;
		if (kill((pid_t)pid, SIGKILL) && errno != ESRCH)
			return false;
		at = end + 1;
	}
	return waitpid(-1, NULL, __WALL) > 0;
}

static int start(struct child *child, char **environment, struct rb_error *error)
{
	its_environment = environment;
	child->began = now_ns();
	child->pid = clone(begin, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, child);
	if (child->pid < 0)
		return rb_fail(error, RB_LIMIT_HIT, errno, "Raise ulimit -u, or pids.max.",
			       "A process cannot be started: %s.", strerror(errno));
	return 0;
}

/* Ours of the pipe: what it holds, without waiting for more. */
static int open_pipe(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC))
		return -1;
	return fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

/*
 * Run it to its end. `at_exit` is called while its memory is still there, `heard` with what it
 * writes to its standard error. -1 with *error when it could not be started.
 */
int child_run(struct child *child, char **environment, void (*at_exit)(pid_t),
	      void (*heard)(const char *, size_t), struct rb_error *error)
{
	int ends[2], signals, rc;
	sigset_t set;

	if (open_pipe(ends))
		return rb_fail(error, RB_LIMIT_HIT, errno, "Raise ulimit -n.", "pipe failed: %s.",
			       strerror(errno));
	/* Above all that it gets as its own. */
	child->complaints = fcntl(ends[1], F_DUPFD_CLOEXEC, VALUES_FD + 1);
	if (sigemptyset(&set) || sigaddset(&set, SIGCHLD) ||
	    sigprocmask(SIG_BLOCK, &set, &inherited) || child->complaints < 0 || close(ends[1]))
		_exit(1);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		_exit(1);
	rc = start(child, environment, error);
	if (close(child->complaints))
		_exit(1);
	if (!rc) {
		follow(child, signals, ends[0], at_exit, heard);
		while (end_rest())
			;
	}
	if (close(signals) || close(ends[0]) || sigprocmask(SIG_SETMASK, &inherited, NULL))
		_exit(1);
	return rc;
}
