/* SPDX-License-Identifier: MIT */
/*
 * SIGSEGV and SIGBUS that no mechanism resolves become an answer instead of the agent's end.
 * A mechanism's own handler, installed in setup(), hands on to this one.
 */
#include "agent.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define STACK_SIZE (32u << 10)

struct guard {
	sigjmp_buf back;
	struct trap trap;
	volatile sig_atomic_t armed;
};

static _Thread_local struct guard guard;
static unsigned char main_stack[STACK_SIZE] __attribute__((aligned(16)));

static void on_fault(int number, siginfo_t *info, void *frame)
{
	struct sigaction standard;

	(void)frame;
	if (guard.armed) {
		guard.armed = 0;
		guard.trap.signal = number;
		guard.trap.address = (uintptr_t)info->si_addr;
		siglongjmp(guard.back, 1);
	}
	/* Not ours: end as if there were no handler, at once if it was sent, else by the fault. */
	memset(&standard, 0, sizeof(standard));
	standard.sa_handler = SIG_DFL;
	if (sigaction(number, &standard, NULL))
		_exit(128 + number);
	if (info->si_code <= 0 && raise(number))
		_exit(128 + number);
}

int guard_thread(void *stack, size_t size)
{
	stack_t alternate = { .ss_sp = stack, .ss_size = size };

	return sigaltstack(&alternate, NULL);
}

int guard_install(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_fault;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK;
	if (sigemptyset(&action.sa_mask) || guard_thread(main_stack, sizeof(main_stack)))
		return -1;
	if (sigaction(SIGSEGV, &action, NULL) || sigaction(SIGBUS, &action, NULL))
		return -1;
	return 0;
}

/* The mask is not saved, which would be a system call in timed code; it is mended afterwards. */
void guard_run(void (*function)(void *), void *argument, struct trap *trap)
{
	sigset_t both;

	if (!sigsetjmp(guard.back, 0)) {
		guard.armed = 1;
		function(argument);
		guard.armed = 0;
		trap->signal = 0;
		return;
	}
	*trap = guard.trap;
	if (sigemptyset(&both) || sigaddset(&both, SIGSEGV) || sigaddset(&both, SIGBUS) ||
	    pthread_sigmask(SIG_UNBLOCK, &both, NULL))
		_exit(1);
}
