/* SPDX-License-Identifier: MIT */
#include "signals.h"

#include <errno.h>
#include <string.h>

int rb_signal_take(int number, void (*handler)(int, siginfo_t *, void *),
		   struct sigaction *before, struct rb_error *error)
{
	struct sigaction ours;

	memset(&ours, 0, sizeof(ours));
	if (!sigaction(number, NULL, before)) {
		ours.sa_sigaction = handler;
		/* A handler before us that jumps out may rely on an open signal mask. */
		ours.sa_flags = SA_SIGINFO | SA_ONSTACK | (before->sa_flags & SA_NODEFER);
		if (!sigemptyset(&ours.sa_mask) && !sigaction(number, &ours, NULL))
			return 0;
	}
	return rb_fail(error, RB_UNSUPPORTED, errno, "Look up the error in sigaction(2).",
		       "The handler for signal %d could not be installed: %s.", number,
		       strerror(errno));
}

void rb_signal_pass(const struct sigaction *before, int number, siginfo_t *info, void *where)
{
	if (before->sa_flags & SA_SIGINFO) {
		before->sa_sigaction(number, info, where);
	} else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
		before->sa_handler(number);
	} else {
		/* The instruction faults again when we return, and ends the process. */
		(void)signal(number, SIG_DFL);
		if (info->si_code <= 0)
			(void)raise(number);
	}
}
