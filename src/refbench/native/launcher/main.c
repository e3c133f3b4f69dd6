/* SPDX-License-Identifier: MIT */
/*
 * The launcher: starts agents for the command line, one at a time, and leaves none behind.
 *
 *	launcher FD [cpus=N[,N...]] [cgroup=DIRECTORY]
 *
 * FD is a SOCK_SEQPACKET socket. The launcher sets once what every agent inherits (CPU, NUMA
 * node, cgroup, no address randomisation), says "note WHAT ERRNO" for each setting that was
 * refused, and "ready". Then it takes messages:
 *
 *	run\0ARGV0\0ARGV1\0...	start a program; two descriptors come along, its stdout and stderr
 *	kill			end it now
 *	(end of file, SIGTERM)	end it, and the launcher with it
 *
 * and answers each run with "ended exit N", "ended signal N" or "ended unborn N" (a signal met
 * the child before its exec), after every process that the program left has been killed and
 * reaped; "failed WHAT ERRNO" comes before it when the program could not be executed.
 */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_MESSAGE 65536
#define MAX_ARGUMENTS 256
#define UNBORN "rb-unborn"

static int sock;
static pid_t agent;		/* 0: none runs */
static sigset_t inherited_mask;
static char message[MAX_MESSAGE];

void say(const char *what, const char *detail, int number)
{
	char text[128];
	int length = snprintf(text, sizeof(text), "%s %s %d", what, detail, number);

	/* If nobody listens any more, the next read says so. */
	if (length > 0 && send(sock, text, (size_t)length, MSG_NOSIGNAL) < 0)
		return;
}

void note(const char *what)
{
	say("note", what, errno);
}

static void fail_child(const char *what)
{
	say("failed", what, errno);
	_exit(127);
}

static void run_child(pid_t launcher, char **argv, const int out[2])
{
	if (setpgid(0, 0) < 0)
		fail_child("setpgid");
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		fail_child("prctl");
	if (getppid() != launcher)
		_exit(127);
	if (prctl(PR_SET_NAME, UNBORN) < 0)
		fail_child("prctl");
	/* Out of memory, the kernel should take the agent and nobody else. */
	if (!write_file("/proc/self/oom_score_adj", "1000") && errno != ENOENT)
		fail_child("oom_score_adj");
	if (dup2(out[0], STDOUT_FILENO) < 0 || dup2(out[1], STDERR_FILENO) < 0)
		fail_child("dup2");
	if (sigprocmask(SIG_SETMASK, &inherited_mask, NULL) < 0)
		fail_child("sigprocmask");
	execve(argv[0], argv, environ);
	fail_child("execve");
}

static void start(char **argv, const int out[2])
{
	pid_t launcher = getpid();
	pid_t pid = fork();

	if (pid < 0) {
		say("failed", "fork", errno);
		say("ended", "exit", 127);
		return;
	}
	if (!pid)
		run_child(launcher, argv, out);
	/* Both sides set it, so that the group exists whoever runs first. */
	if (setpgid(pid, pid) < 0 && errno != EACCES && errno != ESRCH)
		note("setpgid");
	agent = pid;
}

/* A zombie keeps its name, so this tells what it was when it died. */
static bool died_unborn(pid_t pid)
{
	char path[64], name[sizeof(UNBORN)] = "";
	int fd;
	ssize_t got;

	if (snprintf(path, sizeof(path), "/proc/%d/comm", pid) < 0)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, name, sizeof(name) - 1);
	if (close(fd) < 0 || got < 0)
		return false;
	return !strcmp(name, UNBORN);
}

/* What left the agent's group has become our child, because we are the subreaper. */
static bool kill_children(void)
{
	char path[64], *at = message;
	ssize_t got;
	int fd;

	if (snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid()) < 0)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, message, sizeof(message) - 1);
	if (close(fd) < 0 || got <= 0)
		return false;
	message[got] = '\0';
	for (;;) {
		char *end;
		long pid = strtol(at, &end, 10);

		/* The last number may have been cut short; it is found again next time. */
		if (end == at || *end != ' ')
			return true;
		if (kill((pid_t)pid, SIGKILL) < 0 && errno != ESRCH)
			return false;
		at = end + 1;
	}
}

static void reap_rest(void)
{
	for (;;) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0)
			return;
		if (pid > 0)
			continue;
		if (!kill_children() || waitpid(-1, NULL, 0) < 0)
			return;
	}
}

static void kill_agent(void)
{
	/* Not yet reaped, so the group's number cannot be anybody else's. */
	if (agent && kill(-agent, SIGKILL) < 0 && errno != ESRCH)
		note("kill");
}

static void finish_agent(bool signalled)
{
	pid_t pid = agent;
	bool unborn = signalled && died_unborn(pid);
	int status;

	kill_agent();
	agent = 0;
	if (waitpid(pid, &status, 0) < 0) {
		note("wait");
		status = 127 << 8;
	}
	reap_rest();
	if (WIFSIGNALED(status))
		say("ended", unborn ? "unborn" : "signal", WTERMSIG(status));
	else
		say("ended", "exit", WEXITSTATUS(status));
}

static void children_changed(void)
{
	for (;;) {
		siginfo_t child = { 0 };

		if (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) < 0 || !child.si_pid)
			return;
		if (child.si_pid == agent)
			finish_agent(child.si_code != CLD_EXITED);
		else if (waitpid(child.si_pid, NULL, 0) < 0)
			return;
	}
}

/* One signal. False when it asks the launcher to end. */
static bool take_signal(int signals)
{
	struct signalfd_siginfo info = { 0 };

	if (read(signals, &info, sizeof(info)) < 0)
		return errno == EAGAIN;
	if (info.ssi_signo == SIGTERM)
		return false;
	children_changed();
	return true;
}

static void take_run(char *text, size_t length, const int out[2])
{
	char *argv[MAX_ARGUMENTS + 1];
	size_t count = 0;
	char *at = text;

	while (at < text + length && count < MAX_ARGUMENTS) {
		argv[count++] = at;
		at += strlen(at) + 1;
	}
	argv[count] = NULL;
	if (!count || at < text + length || agent) {
		say("failed", "request", agent ? EBUSY : E2BIG);
		say("ended", "exit", 127);
		return;
	}
	start(argv, out);
}

/* One message. False when the other side has gone. */
static bool take_message(void)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec data = { .iov_base = message, .iov_len = sizeof(message) - 1 };
	struct msghdr packet = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t length = recvmsg(sock, &packet, MSG_CMSG_CLOEXEC);
	struct cmsghdr *header;
	int out[2];

	if (length <= 0 || packet.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return false;
	message[length] = '\0';
	if (!strcmp(message, "kill")) {
		kill_agent();
		return true;
	}
	header = CMSG_FIRSTHDR(&packet);
	if (strcmp(message, "run") || !header || header->cmsg_type != SCM_RIGHTS ||
	    header->cmsg_len != CMSG_LEN(sizeof(out)))
		return false;
	memcpy(out, CMSG_DATA(header), sizeof(out));
	take_run(message + sizeof("run"), (size_t)length - sizeof("run"), out);
	return close(out[0]) == 0 && close(out[1]) == 0;
}

static int open_signals(void)
{
	sigset_t set;

	if (sigemptyset(&set) < 0 || sigaddset(&set, SIGCHLD) < 0 ||
	    sigaddset(&set, SIGTERM) < 0 ||
	    sigprocmask(SIG_BLOCK, &set, &inherited_mask) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void set_up(int argc, char **argv)
{
	/* SIGTERM, which is read below: there is work to do before the end. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		note("prctl");
	settings_make(argc - 2, argv + 2);
	say("ready", "launcher", 1);
}

int main(int argc, char **argv)
{
	struct pollfd watched[2] = { { .events = POLLIN }, { .events = POLLIN } };

	if (argc < 2)
		return 2;
	sock = atoi(argv[1]);
	watched[0].fd = sock;
	watched[1].fd = open_signals();
	if (watched[1].fd < 0 || fcntl(sock, F_SETFD, FD_CLOEXEC) < 0)
		return 1;
	set_up(argc, argv);
	for (;;) {
		if (poll(watched, 2, -1) < 0 && errno != EINTR)
			break;
		if (watched[1].revents && !take_signal(watched[1].fd))
			break;
		if (watched[0].revents && !take_message())
			break;
	}
	kill_agent();
	reap_rest();
	return 0;
}
