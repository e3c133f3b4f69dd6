/* SPDX-License-Identifier: MIT */
/* Fault signals for the mechanisms that own them. */
#ifndef REFBENCH_SIGNALS_H
#define REFBENCH_SIGNALS_H

#include "mechanism.h"

#include <signal.h>

/* Install a handler that runs on the alternate stack; what was there before goes into *before. */
int rb_signal_take(int number, void (*handler)(int, siginfo_t *, void *),
		   struct sigaction *before, struct rb_error *error);

/* A fault that is not ours: do what would have been done without us. May not return. */
void rb_signal_pass(const struct sigaction *before, int number, siginfo_t *info, void *where);

#endif
