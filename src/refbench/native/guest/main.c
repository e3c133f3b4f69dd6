/* SPDX-License-Identifier: MIT */
/*
 * The first process of a guest: serves the host over a virtio port, one request at a time.
 *
 *	put PATH MODE SIZE\n<bytes>	a file, with its mode in octal
 *	write PATH SIZE\n<bytes>	a value for a file under /proc or /sys
 *	read PATH\n			answered by "data SIZE\n<bytes>"
 *	module PATH SIZE\n<args>	load a kernel module
 *	swap PATH\n			make a block device swap, and use it
 *	mount KIND DEVICE PLACE\n	a file system, at a place that is there
 *	run SIZE\n<argv>		start a program; the arguments are parted by NUL
 *	kill\n				end the program that runs; no answer of its own
 *	halt\n				the end of the guest
 *
 * A request is answered by "done", by "failed WHAT ERRNO", or as said above. A program's output
 * comes as "out SIZE\n<bytes>" and "err SIZE\n<bytes>", in the order of each stream, and after it
 * "ended exit N", "ended signal N" or "ended unborn N", as the launcher has it; "failed WHAT
 * ERRNO" before it says why a program did not start. What runs writes to memory: nothing is sent
 * before the end, but when a megabyte is full. "ready VERSION" comes first of all, and before it a
 * "note WHAT ERRNO" for each setting that the kernel refused.
 *
 * With REFBENCH_ALIGN=SECONDS in the environment, which is the kernel's command line, the clock
 * counts instructions, and an idle guest's time jumps from timer to timer while the host thinks. So
 * waiting for the host keeps the CPU busy, which moves that clock by next to nothing, and
 * programs start when it is a multiple of so many seconds: in every session the n-th program
 * starts at the same time, and all that the kernel does periodically has the same phase in it.
 */
#include "guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#define PORT "org.refbench.port"
#define MAX_LINE 4352	/* a path and some words */
#define MAX_WORDS 4

struct request {
	char line[MAX_LINE];
	char *word[MAX_WORDS];
	size_t words;
};

static void split(struct request *r)
{
	char *rest = r->line;

	r->words = 0;
	while (rest && r->words < MAX_WORDS)
		r->word[r->words++] = strsep(&rest, " ");
}

static size_t number(const struct request *r, size_t word, int base)
{
	return (size_t)strtoull(r->word[word], NULL, base);
}

static int halt(void)
{
	sync();
	return reboot(RB_AUTOBOOT);
}

static int serve(struct request *r)
{
	const char *verb = r->word[0];

	if (!strcmp(verb, "put") && r->words == 4)
		return files_put(r->word[1], (mode_t)number(r, 2, 8), number(r, 3, 10));
	if (!strcmp(verb, "write") && r->words == 3)
		return files_write(r->word[1], number(r, 2, 10));
	if (!strcmp(verb, "read") && r->words == 2)
		return files_read(r->word[1]);
	if (!strcmp(verb, "module") && r->words == 3)
		return files_module(r->word[1], number(r, 2, 10));
	if (!strcmp(verb, "swap") && r->words == 2)
		return files_swap(r->word[1]);
	if (!strcmp(verb, "mount") && r->words == 4)
		return files_mount(r->word[1], r->word[2], r->word[3]);
	if (!strcmp(verb, "run") && r->words == 2)
		return runner_run(number(r, 1, 10));
	if (!strcmp(verb, "kill") && r->words == 1)
		return runner_kill();
	if (!strcmp(verb, "halt") && r->words == 1)
		return halt();
	errno = EPROTO;
	return answer("request", false);
}

static int loop(void)
{
	static struct request request;
	struct pollfd watched[4];

	for (;;) {
		size_t count = runner_watch(watched + 1);

		watched[0] = (struct pollfd){ .fd = port_fd(), .events = POLLIN };
		if (poll(watched, count + 1, runner_busy() && !port_pending() ? -1 :
			 port_patience()) < 0 && errno != EINTR)
			return -1;
		if (runner_events(watched + 1, count))
			return -1;
		if (!port_pending() && !(watched[0].revents & POLLIN))
			continue;
		if (port_line(request.line, sizeof(request.line)) < 0)
			return -1;
		split(&request);
		if (serve(&request))
			return -1;
	}
}

static int start(const char **failed)
{
	*failed = "mounts";
	if (mounts_make())
		return -1;
	*failed = "port " PORT;
	if (port_open(PORT, runner_alignment() > 0))
		return -1;
	*failed = "launcher";
	if (runner_start() || runner_yield())
		return -1;
	*failed = "request";
	return port_putf("ready %d\n", GUEST_PROTOCOL) || port_flush() ? -1 : 0;
}

int main(void)
{
	const char *failed;

	if (!start(&failed))
		loop();
	log_failure(failed);
	/* The kernel panics when its init ends, and the host sees it. */
	return 1;
}
