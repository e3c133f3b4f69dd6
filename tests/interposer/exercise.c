/* SPDX-License-Identifier: MIT */
/*
 * exercise PATTERN: what a program may ask of malloc's family. It looks itself at every byte that
 * it gets, whatever the allocator says of it. PATTERN: a byte, -1 for no promise.
 * exercise fork N: N forked children that allocate; what is left open or mapped is an error.
 */
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS 64
#define ROUNDS 3000
#define THREADS 4

static int pattern;

static void look(const unsigned char *at, size_t from, size_t end, int wanted, const char *what)
{
	for (size_t i = from; wanted >= 0 && i < end; i++) {
		if (at[i] != wanted) {
			fprintf(stderr, "%s: byte %zu of %zu is %#x, not %#x\n", what, i, end, at[i],
				(unsigned int)wanted);
			abort();
		}
	}
}

static uint32_t draw(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* Mostly small, sometimes a few MiB. */
static size_t size_of(uint32_t *state)
{
	uint32_t kind = draw(state) % 100;

	return draw(state) % (kind < 70 ? 300 : kind < 95 ? 40000 : kind < 99 ? 300000 : 9000000);
}

static unsigned char *get(uint32_t *state, size_t size)
{
	unsigned char *got = NULL;
	size_t align = 16ul << draw(state) % 10;

	switch (draw(state) % 6) {
	case 0:
		got = calloc(1, size);
		look(got, 0, size, 0, "calloc");
		return got;
	case 1:
		if (posix_memalign((void **)&got, align, size))
			abort();
		break;
	case 2:
		got = aligned_alloc(align, size);
		break;
	case 3:
		got = memalign(align, size);
		break;
	default:
		align = 1;
		got = malloc(size);
	}
	if (!got || (uintptr_t)got % align)
		abort();
	look(got, 0, size, pattern, "malloc");
	return got;
}

static void *churn(void *seed)
{
	static __thread struct { unsigned char *at; size_t size; } slots[SLOTS];
	uint32_t state = (uint32_t)(uintptr_t)seed;

	for (int i = 0; i < ROUNDS; i++) {
		size_t n = draw(&state) % SLOTS;
		size_t size = size_of(&state);
		unsigned char *at = slots[n].at;
		size_t kept = 0;

		if (at && draw(&state) % 3 == 0) {
			/* realloc(p, 0) frees. */
			size += !size;
			kept = slots[n].size < size ? slots[n].size : size;
			at = realloc(at, size);
			look(at, 0, kept, 0x5a, "kept by realloc");
			look(at, kept, size, pattern, "realloc");
		} else {
			free(at);
			at = get(&state, size);
		}
		if (draw(&state) % 16 == 0) {
			size_t usable = malloc_usable_size(at);

			look(at, size, usable, pattern, "usable");
			size = usable;
		}
		memset(at, 0x5a, size);
		slots[n].at = at;
		slots[n].size = size;
	}
	for (int i = 0; i < SLOTS; i++) {
		free(slots[i].at);
		slots[i].at = NULL;
	}
	return NULL;
}

static void run_threads(void)
{
	pthread_t threads[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, churn, (void *)(i + 1)))
			abort();
	for (int i = 0; i < THREADS; i++)
		if (pthread_join(threads[i], NULL))
			abort();
}

static void edges(void)
{
	/* Through volatile: the compiler knows that these fail. */
	volatile size_t huge = SIZE_MAX, half = SIZE_MAX / 2 + 1, three = 3;
	void *got = malloc(0);

	if (!got || malloc(huge) || calloc(half, 2) || realloc(got, huge) || errno != ENOMEM ||
	    reallocarray(got, half, 2) || aligned_alloc(three, 8) || errno != EINVAL ||
	    posix_memalign(&got, three, 8) != EINVAL || malloc_usable_size(NULL))
		abort();
	free(got);
	free(NULL);
}

static int entries(const char *path)
{
	DIR *directory = opendir(path);
	int count = 0;

	while (directory && readdir(directory))
		count++;
	if (!directory || closedir(directory))
		abort();
	return count;
}

static int lines(const char *path)
{
	FILE *file = fopen(path, "r");
	int count = 0;

	for (int c; file && (c = getc(file)) != EOF;)
		count += c == '\n';
	if (!file || fclose(file))
		abort();
	return count;
}

static int forks(int count)
{
	unsigned char *before = malloc(3 << 20);
	int fds = 0, maps = 0;

	memset(before, 0x11, 1 << 20);
	for (int i = 0; i < count; i++) {
		int status;
		pid_t child = fork();

		if (!child) {
			look(before, 0, 1 << 20, 0x11, "kept in the child");
			look(before, 1 << 20, 3 << 20, pattern, "fresh in the child");
			(void)churn((void *)(uintptr_t)(i + 1));
			if (i % 8 == 0 && !fork())
				(void)churn((void *)(uintptr_t)(i + 7));
			while (wait(NULL) > 0)
				;
			_exit(0);
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status)
			return 1;
		/* The first ones may open what the process keeps. */
		if (i == 8) {
			fds = entries("/proc/self/fd");
			maps = lines("/proc/self/maps");
		}
	}
	if (count > 8 && (entries("/proc/self/fd") != fds || lines("/proc/self/maps") > maps)) {
		fprintf(stderr, "%d descriptors were %d, %d mappings were %d\n",
			entries("/proc/self/fd"), fds, lines("/proc/self/maps"), maps);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	pattern = atoi(argv[1]);
	if (argc == 4 && !strcmp(argv[2], "fork"))
		return forks(atoi(argv[3]));
	edges();
	(void)churn((void *)99);
	run_threads();
	(void)churn((void *)98);
	return 0;
}
