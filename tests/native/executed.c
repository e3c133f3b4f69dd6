/* SPDX-License-Identifier: MIT */
/* What the step `execute` is tried on: each word does one thing, in the order in which they come. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *own;
static char *volatile kept;

/* So many MiB, written and kept. */
static void take(long mebibytes)
{
	size_t size = (size_t)mebibytes << 20;

	kept = malloc(size);
	if (!kept)
		exit(9);
	memset(kept, 1, size);
}

static void *take_here(void *argument)
{
	size_t size = 1 << 20;
	char *volatile mine = malloc(size);

	if (!mine)
		exit(9);
	memset(mine, 1, size);
	free(mine);
	return argument;
}

static void make_threads(long count)
{
	while (count--) {
		pthread_t id;

		if (pthread_create(&id, NULL, take_here, NULL) || pthread_join(id, NULL))
			exit(9);
	}
}

/* A child that does as much. */
static void make_child(long mebibytes)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		exit(9);
	if (!child) {
		take(mebibytes);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		exit(9);
}

/* One that nobody waits for, in a session of its own, with everything that it was given. */
static void leave_child(void)
{
	pid_t child = fork();

	if (child < 0)
		exit(9);
	if (child)
		return;
	setsid();
	prctl(PR_SET_PDEATHSIG, 0);
	sleep(1000);
	_exit(0);
}

static void *go_on(void *argument)
{
	/* The first thread is a zombie by then; the process ends with this one. */
	usleep(50000);
	exit(argument ? 1 : 0);
}

static void end_first_thread(void)
{
	pthread_t id;

	if (pthread_create(&id, NULL, go_on, NULL))
		exit(9);
	pthread_exit(NULL);
}

static void chat(long bytes)
{
	for (long i = 0; i < bytes; i += 10)
		fputs("nonsense \n", stderr);
	fputs("the last word\n", stderr);
}

static void report(const char *text)
{
	if (write(3, text, strlen(text)) != (ssize_t)strlen(text) || write(3, "\n", 1) != 1)
		exit(9);
}

static void report_many(long count)
{
	char line[64];

	for (long i = 0; i < count; i++) {
		snprintf(line, sizeof(line), "value-%ld %ld", i, i * i);
		report(line);
	}
}

static void report_variable(const char *name)
{
	char line[128];

	snprintf(line, sizeof(line), "variable %s", getenv(name) ? getenv(name) : "0");
	report(line);
}

static void report_signals(void)
{
	struct sigaction now;
	sigset_t blocked;
	char line[64];

	if (sigaction(SIGPIPE, NULL, &now) || sigprocmask(SIG_SETMASK, NULL, &blocked))
		exit(9);
	snprintf(line, sizeof(line), "plain %d",
		 now.sa_handler == SIG_DFL && !sigismember(&blocked, SIGCHLD));
	report(line);
}

static void act(const char *word, const char *with, char **argv)
{
	long number = with ? strtol(with, NULL, 10) : 0;

	if (!strcmp(word, "take"))
		take(number);
	else if (!strcmp(word, "threads"))
		make_threads(number);
	else if (!strcmp(word, "child"))
		make_child(number);
	else if (!strcmp(word, "leave"))
		leave_child();
	else if (!strcmp(word, "zombie"))
		end_first_thread();
	else if (!strcmp(word, "chat"))
		chat(number);
	else if (!strcmp(word, "report"))
		report(with);
	else if (!strcmp(word, "many"))
		report_many(number);
	else if (!strcmp(word, "variable"))
		report_variable(with);
	else if (!strcmp(word, "signals"))
		report_signals();
	else if (!strcmp(word, "raise"))
		raise((int)number);
	else if (!strcmp(word, "exit"))
		exit((int)number);
	else if (!strcmp(word, "sleep"))
		usleep((useconds_t)number * 1000);
	else if (!strcmp(word, "again"))
		execv(own, argv);
	else
		exit(8);
}

/* Words and their values: `take=32 raise=11`; what follows `again` is for the next one. */
int main(int argc, char **argv)
{
	own = argv[0];
	for (int i = 1; i < argc; i++) {
		char *with = strchr(argv[i], '=');

		if (with)
			*with++ = '\0';
		act(argv[i], with, argv + i);
	}
	return 0;
}
