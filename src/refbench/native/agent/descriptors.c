/* SPDX-License-Identifier: MIT */
/* `descriptors`: what a program finds open that this process executes. */
#include "agent.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 100	/* of the exit status */
#define LOST 127

/* The executed side, --descriptors: its exit status is how many there are beside the usual three. */
int descriptors_count(void)
{
	DIR *all = opendir("/proc/self/fd");
	const struct dirent *entry;
	int count = 0;

	if (!all)
		return LOST;
	while ((entry = readdir(all))) {
		int fd = atoi(entry->d_name);

		if (fd > STDERR_FILENO && fd != dirfd(all) && count < MOST)
			count++;
	}
	return closedir(all) ? LOST : count;
}

static void execute(void)
{
	char name[] = "agent", option[] = "--descriptors";
	char *const argv[] = { name, option, NULL };
	char *const environment[] = { NULL };

	execve("/proc/self/exe", argv, environment);
	_exit(LOST);
}

static void judge(struct observation *seen, int status)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status) == LOST) {
		seen->ok = false;
		detail_set(seen, "unavailable: the program did not run");
	} else if (WEXITSTATUS(status)) {
		seen->ok = false;
		detail_set(seen, "the program has %d descriptors of this process",
			   WEXITSTATUS(status));
	}
}

int descriptors_run(const struct step *s)
{
	struct observation seen = observation_of(s);
	struct rb_error error;
	pid_t child;
	int status;

	child = fork_child(&error);
	if (!child)
		execute();
	if (child < 0) {
		seen.ok = false;
		detail_set(&seen, "unavailable: %.60s", error.message);
	} else if (waitpid(child, &status, 0) != child) {
		seen.ok = false;
		detail_set(&seen, "unavailable: the child was lost");
	} else {
		judge(&seen, status);
	}
	return observe(&seen);
}
