/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd MISSING with UFFD_FEATURE_SIGBUS: the faulting thread gets SIGBUS and copies the page
 * itself. No second thread, no waiting; but the kernel's own accesses fail with EFAULT.
 */
#include "signals.h"
#include "userfault.h"

#include <errno.h>

/* A process has one handler for a signal, so there is one context. */
static struct {
	struct rb_context *ctx;
	struct rb_ranges *ranges;
	struct sigaction before;
	int fd; /* -1 in a forked child that has not opened its own yet */
	bool atfork;
} sigbus;

static void on_fault(int number, siginfo_t *info, void *where)
{
	int saved = errno;
	uintptr_t addr = (uintptr_t)info->si_addr;
	int err;

	rb_count(&sigbus.ctx->counters->sigbus);
	if (info->si_code > 0 && rb_ranges_contain(sigbus.ranges, addr)) {
		err = rb_userfault_copy(sigbus.ctx, sigbus.fd, addr);
		if (!err || err == EAGAIN || err == ENOMEM) {
			errno = saved;
			return;
		}
	}
	errno = saved;
	rb_signal_pass(&sigbus.before, number, info, where);
}

static int open_own(struct rb_context *ctx, struct rb_error *error)
{
	sigbus.fd = rb_userfault_open(ctx, UFFD_FEATURE_SIGBUS, error);
	return sigbus.fd < 0 ? -1 : 0;
}

static void close_all(struct rb_context *ctx)
{
	rb_userfault_close(ctx, &sigbus.fd);
	rb_ranges_close(ctx, sigbus.ranges);
	sigbus.ctx = NULL;
}

static int sigbus_setup(struct rb_context *ctx, struct rb_error *error)
{
	if (sigbus.ctx)
		return rb_fail(error, RB_USAGE, 0, "Use one at a time.",
			       "The process's SIGBUS handler is taken by another uffd-sigbus.");
	if (rb_option_text(ctx, "events"))
		return rb_fail(error, RB_USAGE, 0, "Use atfork, or the mechanism uffd.",
			       "uffd-sigbus has no thread that could read events: the child of a "
			       "fork would have no descriptor.");
	if (rb_option_switch(ctx, "atfork", false, &sigbus.atfork, error) || open_own(ctx, error))
		return -1;
	sigbus.ranges = rb_ranges_open(ctx, error);
	if (!sigbus.ranges) {
		rb_userfault_close(ctx, &sigbus.fd);
		return -1;
	}
	sigbus.ctx = ctx;
	if (!rb_signal_take(SIGBUS, on_fault, &sigbus.before, error))
		return 0;
	close_all(ctx);
	return -1;
}

static void *sigbus_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
			struct rb_error *error)
{
	void *got;

	if (sigbus.fd < 0 && open_own(ctx, error))
		return NULL;
	got = rb_userfault_map(ctx, sigbus.fd, addr, size, flags, error);
	if (!got || !rb_ranges_add(sigbus.ranges, got, size, error))
		return got;
	if (rb_munmap(ctx, got, size))
		rb_fail_map(error, size, errno);
	return NULL;
}

static void sigbus_forget(struct rb_context *ctx, void *addr, size_t size)
{
	(void)ctx;
	rb_ranges_remove(sigbus.ranges, addr, size);
}

/* The descriptor that was inherited is the parent's: it serves the parent's memory. */
static int sigbus_after_fork_child(struct rb_context *ctx, struct rb_error *error)
{
	rb_ranges_after_fork(sigbus.ranges);
	rb_userfault_close(ctx, &sigbus.fd);
	if (!sigbus.atfork)
		return 0;
	if (open_own(ctx, error))
		return -1;
	return rb_userfault_register_all(ctx, sigbus.fd, sigbus.ranges, error);
}

static void sigbus_teardown(struct rb_context *ctx)
{
	(void)sigaction(SIGBUS, &sigbus.before, NULL);
	close_all(ctx);
}

static const struct rb_mechanism uffd_sigbus_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "uffd-sigbus",
	.applies_pattern = true,
	.owns_signals = true,
	.purge_restores = true,
	.stops_system_calls = true,
	.setup = sigbus_setup,
	.map = sigbus_map,
	.forget = sigbus_forget,
	.after_fork_child = sigbus_after_fork_child,
	.facts = rb_userfault_facts,
	.teardown = sigbus_teardown,
};
RB_REGISTER(uffd_sigbus_mechanism);
