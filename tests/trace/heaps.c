/* SPDX-License-Identifier: MIT */
/* Programs whose heaps are recorded: the first argument says which. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEPT 600

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *get(size_t size)
{
	void *got = malloc(size);

	if (!got)
		fail("malloc");
	return got;
}

/* Every fourth KiB is stored to, and the first page is loaded from before that. */
static void use(unsigned char *block, size_t size)
{
	volatile unsigned char *at = block;

	(void)at[size / 2];
	for (size_t i = 0; i < size; i += 4096)
		at[i] = 1;
}

/* Blocks of many sizes, kept in turn, some of them never stored to. */
static void *churn(void *argument)
{
	unsigned char *kept[KEPT] = { NULL };
	uint64_t random = (uintptr_t)argument + 1;

	for (int i = 0; i < 12000; i++) {
		size_t size;

		random = random * 6364136223846793005u + 1442695040888963407u;
		size = (random >> 33) % (i % 50 ? 2000 : 90000) + 1;
		free(kept[i % KEPT]);
		kept[i % KEPT] = i % 7 ? get(size) : calloc(1, size);
		if (!kept[i % KEPT])
			fail("calloc");
		if (i % 5)
			use(kept[i % KEPT], size);
	}
	for (int i = 0; i < KEPT; i++)
		free(kept[i]);
	return NULL;
}

static void large(void)
{
	unsigned char *at = get(12u << 20);
	unsigned char *zeroes = calloc(5, 1u << 20);

	if (!zeroes)
		fail("calloc");
	use(zeroes, 1u << 20);
	use(at, 6u << 20);
	at = realloc(at, 16u << 20);
	if (!at)
		fail("realloc");
	use(at, 16u << 20);
	free(at);
	at = get(9u << 20);
	free(zeroes);
	free(at);
}

static void *nothing(void *argument)
{
	unsigned char *at = get(100);

	at[0] = 1;
	free(at);
	return argument;
}

static void threads(int count, int at_once, void *(*work)(void *))
{
	pthread_t ids[16];

	for (int i = 0; i < count; i += at_once) {
		for (int t = 0; t < at_once; t++)
			if (pthread_create(&ids[t], NULL, work, (void *)(uintptr_t)(i + t)))
				fail("pthread_create");
		for (int t = 0; t < at_once; t++)
			if (pthread_join(ids[t], NULL))
				fail("pthread_join");
	}
}

/* A child that goes on with the heap, and no other program in it. */
static void forks(void)
{
	int status;

	for (int i = 0; i < 20; i++) {
		unsigned char *at = get(1u << 20);
		pid_t child = fork();

		if (child < 0)
			fail("fork");
		use(at, 1u << 20);
		if (!child) {
			churn(NULL);
			exit(i);
		}
		if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != i)
			fail("waitpid");
		free(at);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "idle"))
		return 0;
	else if (!strcmp(what, "churn"))
		churn(NULL);
	else if (!strcmp(what, "large"))
		large();
	else if (!strcmp(what, "both"))
		churn(NULL), large();
	else if (!strcmp(what, "together"))
		threads(4, 4, churn);
	else if (!strcmp(what, "threads"))
		threads(10000, 8, nothing);
	else if (!strcmp(what, "fork"))
		forks();
	else if (!strcmp(what, "killed"))
		churn(NULL), raise(SIGKILL);
	else if (!strcmp(what, "leaves"))
		churn(NULL), _exit(7);
	else if (!strcmp(what, "exec") && argc > 2)
		execv(argv[0], (char *[]){ argv[0], argv[2], NULL });
	else
		return 2;
	return 0;
}
