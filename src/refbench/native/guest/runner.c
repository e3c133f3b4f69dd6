/* SPDX-License-Identifier: MIT */
/*
 * One program at a time, started by the same launcher as on a host (native/launcher/), so that
 * settings, killing and reaping are the same there and here.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LAUNCHER "/launcher"
#define CHUNK 65536
#define MAX_REQUEST 65536
#define MAX_ENVIRONMENT 32

static const char *const stream_names[2] = { "out", "err" };

static int launcher = -1;	/* our end of its socket */
static int streams[2] = { -1, -1 };
static bool running;		/* from the request until "ended" has been sent */
static bool ended;		/* the launcher has said so; the pipes may still hold something */
static char ending[128];
static char chunk[CHUNK];

/* Nothing of the kernel's own environment but what is meant for agents. */
static char **clean_environment(void)
{
	static char locale[] = "LC_ALL=C";
	static char *kept[MAX_ENVIRONMENT + 2];
	size_t count = 0;

	kept[count++] = locale;
	for (char **at = environ; *at && count <= MAX_ENVIRONMENT; at++)
		if (!strncmp(*at, "REFBENCH_", strlen("REFBENCH_")))
			kept[count++] = *at;
	kept[count] = NULL;
	return kept;
}

static void become_launcher(int theirs)
{
	char number[16], cgroup[] = "cgroup=" AGENTS_CGROUP;
	char *argv[] = { (char *)LAUNCHER, number, cgroup, NULL };

	if (access(AGENTS_CGROUP "/cgroup.procs", W_OK))
		argv[2] = NULL;
	if (snprintf(number, sizeof(number), "%d", theirs) > 0 && !fcntl(theirs, F_SETFD, 0))
		execve(LAUNCHER, argv, clean_environment());
	log_failure(LAUNCHER);
	_exit(127);
}

/* A message of the launcher's; -1 when it has gone. */
static int hear(char *text, size_t size)
{
	ssize_t length;

	do
		length = recv(launcher, text, size - 1, 0);
	while (length < 0 && errno == EINTR);
	if (length <= 0)
		return -1;
	text[length] = '\0';
	return 0;
}

/*
 * Ahead of every agent, so that output is taken in the moment it is written, between the phases
 * that are measured, and never by turning up in the midst of one.
 */
static int take_precedence(void)
{
	const struct sched_param first = { .sched_priority = 1 };

	return sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first);
}

/*
 * Behind everybody else while there is no program. Whoever waits awake, and ahead of the kernel's
 * own threads, holds up what these do every second or two, for as long as the host takes. It then
 * falls into another place of the run that comes.
 */
int runner_yield(void)
{
	const struct sched_param none = { .sched_priority = 0 };

	return sched_setscheduler(0, SCHED_IDLE, &none);
}

int runner_start(void)
{
	int pair[2];
	pid_t pid;

	/* What is forked starts as an ordinary process; it would inherit being behind others. */
	if (take_precedence() || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	pid = fork();
	if (pid < 0)
		return -1;
	if (!pid)
		become_launcher(pair[1]);
	launcher = pair[0];
	if (close(pair[1]))
		return -1;
	for (;;) {
		char text[128];

		if (hear(text, sizeof(text)))
			return -1;
		if (!strncmp(text, "ready", 5))
			return 0;
		/* A setting that was refused; it goes out before our own "ready". */
		if (port_putf("%s\n", text))
			return -1;
	}
}

/* Seconds; 0 on a clock that is not worth it. */
long runner_alignment(void)
{
	const char *text = getenv("REFBENCH_ALIGN");

	return text ? strtol(text, NULL, 10) : 0;
}

bool runner_busy(void)
{
	return running;
}

/* Every run begins at the same phase of whatever the kernel does periodically. */
static int align(void)
{
	long step = runner_alignment();
	struct timespec now;
	int rc;

	if (step <= 0)
		return 0;
	if (clock_gettime(CLOCK_MONOTONIC, &now))
		return -1;
	now.tv_sec += step - now.tv_sec % step;
	now.tv_nsec = 0;
	do
		rc = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &now, NULL);
	while (rc == EINTR);
	errno = rc;
	return rc ? -1 : 0;
}

static int send_run(const char *request, size_t size, const int out[2])
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control = { .space = { 0 } };
	struct iovec data = { .iov_base = (void *)request, .iov_len = size };
	struct msghdr packet = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&packet);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(header), out, 2 * sizeof(int));
	return sendmsg(launcher, &packet, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

static int refuse(const char *what)
{
	if (port_putf("failed %s %d\nended exit 127\n", what, errno) || port_flush())
		return -1;
	return runner_yield();
}

static int launch(const char *request, size_t size)
{
	int out[2], err[2], theirs[2];
	int rc;

	if (take_precedence() || pipe2(out, O_CLOEXEC))
		return refuse("pipe");
	if (pipe2(err, O_CLOEXEC)) {
		close(out[0]);
		close(out[1]);
		return refuse("pipe");
	}
	theirs[0] = out[1];
	theirs[1] = err[1];
	rc = align() || send_run(request, size, theirs) ? -1 : 0;
	if (close(out[1]) || close(err[1]))
		rc = -1;
	if (rc) {
		close(out[0]);
		close(err[0]);
		return refuse("launcher");
	}
	streams[0] = out[0];
	streams[1] = err[0];
	running = true;
	ended = false;
	return 0;
}

int runner_run(size_t size)
{
	static char request[MAX_REQUEST] = "run";
	const size_t verb = sizeof("run");

	if (size > sizeof(request) - verb - 1 || running) {
		errno = running ? EBUSY : E2BIG;
		return port_skip(size) ? -1 : refuse("request");
	}
	if (port_take(request + verb, size))
		return -1;
	/* The launcher wants each argument closed, the last one too. */
	request[verb + size] = '\0';
	return launch(request, verb + size + 1);
}

int runner_kill(void)
{
	if (!running || ended)
		return 0;
	if (send(launcher, "kill", 4, MSG_NOSIGNAL) < 0 && errno != EPIPE)
		return -1;
	return 0;
}

/* Somebody killed the launcher: end what it left, and begin again with another. */
static int relaunch(void)
{
	if (close(launcher) || (kill(-1, SIGKILL) && errno != ESRCH))
		return -1;
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (runner_start())
		return -1;
	if (!running)
		return runner_yield();
	ended = true;
	return snprintf(ending, sizeof(ending), "ended signal %d", SIGKILL) < 0 ? -1 : 0;
}

static int take_message(void)
{
	char text[128];

	if (hear(text, sizeof(text)))
		return relaunch();
	if (strncmp(text, "ended ", 6))
		return port_putf("%s\n", text);
	memcpy(ending, text, sizeof(ending));
	ended = true;
	return 0;
}

static int take_output(int stream)
{
	ssize_t got = read(streams[stream], chunk, sizeof(chunk));

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (got > 0)
		return port_putf("%s %zd\n", stream_names[stream], got) ||
		       port_put(chunk, (size_t)got) ? -1 : 0;
	if (close(streams[stream]))
		return -1;
	streams[stream] = -1;
	return 0;
}

static int finish_when_over(void)
{
	if (!running || !ended || streams[0] >= 0 || streams[1] >= 0)
		return 0;
	running = false;
	if (port_putf("%s\n", ending) || port_flush())
		return -1;
	return runner_yield();
}

/* Up to three descriptors; the launcher's is the first. */
size_t runner_watch(struct pollfd *watched)
{
	size_t count = 0;

	watched[count++] = (struct pollfd){ .fd = launcher, .events = POLLIN };
	for (int i = 0; i < 2; i++)
		if (streams[i] >= 0)
			watched[count++] = (struct pollfd){ .fd = streams[i], .events = POLLIN };
	return count;
}

int runner_events(const struct pollfd *watched, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!watched[i].revents)
			continue;
		if (i == 0 ? take_message() : take_output(watched[i].fd == streams[1]))
			return -1;
	}
	return finish_when_over();
}
