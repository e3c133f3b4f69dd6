/* SPDX-License-Identifier: MIT */
/*
 * Prints the rate of this machine's time stamp counter in kHz. QEMU's translator shows a guest
 * the counter itself, and a guest on a busy machine fails to measure it against its PIT.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define TRIES 200
#define PAUSE_NS 50000000L

struct moment {
	int64_t ns;
	uint64_t ticks;
};

static int64_t now_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now))
		return -1;
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static uint64_t ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return 0;
#endif
}

/* Both clocks at once: of many tries the one that took least. */
static struct moment look(void)
{
	struct moment best = { 0, 0 };
	uint64_t shortest = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = ticks();
		int64_t ns = now_ns();
		uint64_t after = ticks();

		if (ns >= 0 && after - before < shortest) {
			shortest = after - before;
			best.ns = ns;
			best.ticks = before + shortest / 2;
		}
	}
	return best;
}

int main(void)
{
	struct timespec pause = { 0, PAUSE_NS };
	struct moment begin = look();
	struct moment end;
	double khz;

	while (nanosleep(&pause, &pause))
		;
	end = look();
	if (end.ns <= begin.ns)
		return 1;
	khz = (double)(end.ticks - begin.ticks) * 1e6 / (double)(end.ns - begin.ns);
	return printf("%.0f\n", khz) < 0 || fflush(stdout) ? 1 : 0;
}
