/* SPDX-License-Identifier: MIT */
/* The kernel log: where it ended, and whether anything bad came since. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int log_fd = -1;

static int open_at_end(void)
{
	if (log_fd < 0)
		log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log_fd < 0)
		return -1;
	return lseek(log_fd, 0, SEEK_END) < 0 ? -1 : 0;
}

/* A record is "priority,number,time,flags;text\n" and continuation lines. */
static bool is_bad(const char *record)
{
	static const char *const bad[] = { "BUG", "WARNING", "Oops", "Bad rss-counter state" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (strstr(record, bad[i]))
			return true;
	return false;
}

static void look(struct observation *seen)
{
	for (;;) {
		ssize_t got = read(log_fd, shared->text, TEXT_SIZE - 1);
		char *text;

		/* EPIPE: records were overwritten meanwhile; the next read goes on behind them. */
		if (got < 0 && (errno == EPIPE || errno == EINTR))
			continue;
		if (got <= 0)
			return;
		shared->text[got] = '\0';
		text = strchr(shared->text, ';');
		text = text ? text + 1 : shared->text;
		if (!is_bad(text))
			continue;
		text[strcspn(text, "\n")] = '\0';
		if (seen->ok)
			detail_set(seen, "%s", text);
		seen->ok = false;
	}
}

int kernel_log_run(const struct step *s)
{
	struct observation seen = observation_of(s);

	if ((s->choice && open_at_end()) || (!s->choice && log_fd < 0)) {
		seen.ok = false;
		seen.err = errno;
		detail_set(&seen, "unavailable: %s", s->choice ? "/dev/kmsg cannot be read" :
			   "the kernel log was not marked");
	} else if (!s->choice) {
		look(&seen);
	}
	return observe(&seen);
}
