/* SPDX-License-Identifier: MIT */
/*
 * The witness: what refbench.testing runs at the other end of a channel instead of the agent. It
 * says what reached it, or does what an agent does in its worst moments.
 *
 *	witness arguments [ARGUMENT]...		each argument in hexadecimal, a line each
 *	witness digest FILE			its size in bytes and its FNV-1a hash (64 bits)
 *	witness say OUT ERR STATUS		write the bytes (hexadecimal), exit with STATUS
 *	witness flood LINES			so many lines of 64 bytes on both streams, in turn
 *	witness crash				end by SIGSEGV, of a fault
 *	witness killed				end by SIGKILL; a namespace's init says "spared"
 *	witness hang				go on for ever, with a child, whatever SIGTERM says
 *	witness free				exit 0 when nothing of `hang` is left
 *	witness lose PID			kill the process that started it, unless that is PID
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_HANG 120	/* seconds, for channels that never end it */
#define DYING 500		/* looks, 10 ms apart: a killed process gives its memory back first */
#define FNV_OFFSET 0xcbf29ce484222325u	/* Fowler, Noll, Vo: FNV-1a, 64 bits */
#define FNV_PRIME 0x100000001b3u

static int fail(const char *what)
{
	fprintf(stderr, "witness: %s: %s\n", what, strerror(errno));
	return 125;
}

static int arguments(int count, char **texts)
{
	for (int i = 0; i < count; i++) {
		for (const unsigned char *at = (unsigned char *)texts[i]; *at; at++)
			printf("%02x", *at);
		putchar('\n');
	}
	return 0;
}

static int digest(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint64_t hash = FNV_OFFSET, size = 0;
	int c;

	if (!file)
		return fail(path);
	for (; (c = getc(file)) != EOF; size++)
		hash = (hash ^ (unsigned char)c) * FNV_PRIME;
	if (ferror(file) | fclose(file))
		return fail(path);
	printf("%" PRIu64 " %016" PRIx64 "\n", size, hash);
	return 0;
}

static void say(FILE *stream, const char *hex)
{
	unsigned int byte;

	for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
		putc((int)byte, stream);
}

static int flood(long lines)
{
	for (long i = 0; i < lines; i++) {
		printf("%063ld\n", i);
		fprintf(stderr, "%063ld\n", i);
	}
	return 0;
}

static int crash(void)
{
	volatile uintptr_t nowhere = 0;

	return *(volatile int *)nowhere;
}

static int killed(void)
{
	if (raise(SIGKILL))
		return fail("raise");
	puts("spared");
	return 0;
}

/* The executable is a file that every later process of the witness can open, too. */
static int open_self(void)
{
	return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
}

static int hang(void)
{
	int self = open_self();

	if (signal(SIGTERM, SIG_IGN) == SIG_ERR || signal(SIGHUP, SIG_IGN) == SIG_ERR)
		return fail("signal");
	if (self < 0 || flock(self, LOCK_EX))
		return fail("flock");
	/* The lock is one that the child shares: it lasts until both are gone. */
	if (fork() < 0)
		return fail("fork");
	alarm(LONGEST_HANG);
	puts("hanging");
	fflush(stdout);
	/* Not asleep: where a clock counts instructions, an idle machine's alarm is there at once. */
	for (;;)
		;
}

static int is_free(void)
{
	const struct timespec moment = { .tv_nsec = 10 * 1000 * 1000 };
	int self = open_self();

	if (self < 0)
		return fail("open");
	for (int i = 0; i < DYING; i++) {
		if (!flock(self, LOCK_EX | LOCK_NB))
			return 0;
		nanosleep(&moment, NULL);
	}
	return 1;
}

static int lose(long spared)
{
	pid_t parent = getppid();

	if (parent <= 1 || parent == spared) {
		puts("spared");
		return 0;
	}
	puts("half an answer");
	fflush(stdout);
	return kill(parent, SIGKILL) ? fail("kill") : 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	const char *first = argc > 2 ? argv[2] : "";

	if (!strcmp(verb, "arguments"))
		return arguments(argc - 2, argv + 2);
	if (!strcmp(verb, "digest"))
		return digest(first);
	if (!strcmp(verb, "say") && argc == 5) {
		say(stdout, first);
		say(stderr, argv[3]);
		return atoi(argv[4]);
	}
	if (!strcmp(verb, "flood"))
		return flood(atol(first));
	if (!strcmp(verb, "crash"))
		return crash();
	if (!strcmp(verb, "killed"))
		return killed();
	if (!strcmp(verb, "hang"))
		return hang();
	if (!strcmp(verb, "free"))
		return is_free();
	if (!strcmp(verb, "lose"))
		return lose(atol(first));
	fprintf(stderr, "witness: what is '%s'?\n", verb);
	return 2;
}
