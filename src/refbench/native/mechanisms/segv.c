/* SPDX-License-Identifier: MIT */
/*
 * PROT_NONE and a SIGSEGV handler, in the naive way: make the page accessible, then fill it. Between
 * the two, other threads read a page that is half filled, and the fill overwrites what they store.
 * The semantics suite shows both. Each touched page splits a VMA off.
 */
#include "ranges.h"
#include "signals.h"

#include <errno.h>
#include <sys/mman.h>

/* A process has one handler for a signal, so there is one context. */
static struct {
	struct rb_context *ctx;
	struct rb_ranges *ranges;
	struct sigaction before;
} segv;

static void on_fault(int number, siginfo_t *info, void *where)
{
	int saved = errno;
	uintptr_t addr = (uintptr_t)info->si_addr;
	void *page = (void *)(addr & ~(uintptr_t)(segv.ctx->page_size - 1));

	rb_count(&segv.ctx->counters->sigsegv);
	if (info->si_code > 0 && rb_ranges_contain(segv.ranges, addr) &&
	    !rb_mprotect(segv.ctx, page, segv.ctx->page_size, PROT_READ | PROT_WRITE)) {
		rb_fill(segv.ctx, page, segv.ctx->page_size);
		errno = saved;
		return;
	}
	errno = saved;
	rb_signal_pass(&segv.before, number, info, where);
}

static int segv_setup(struct rb_context *ctx, struct rb_error *error)
{
	if (segv.ctx)
		return rb_fail(error, RB_USAGE, 0, "Use one at a time.",
			       "The process's SIGSEGV handler is taken by another segv.");
	segv.ranges = rb_ranges_open(ctx, error);
	if (!segv.ranges)
		return -1;
	segv.ctx = ctx;
	if (!rb_signal_take(SIGSEGV, on_fault, &segv.before, error))
		return 0;
	rb_ranges_close(ctx, segv.ranges);
	segv.ctx = NULL;
	return -1;
}

static void *segv_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
		      struct rb_error *error)
{
	bool populate = flags & RB_MAP_POPULATE;
	void *got = rb_map_new(ctx, addr, size, populate ? PROT_READ | PROT_WRITE : PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | (populate ? MAP_POPULATE : 0), -1, 0,
			       error);

	if (!got)
		return NULL;
	if (populate)
		rb_fill(ctx, got, size);
	if (!rb_ranges_add(segv.ranges, got, size, error))
		return got;
	if (rb_munmap(ctx, got, size))
		rb_fail_map(error, size, errno);
	return NULL;
}

static void segv_forget(struct rb_context *ctx, void *addr, size_t size)
{
	(void)ctx;
	rb_ranges_remove(segv.ranges, addr, size);
}

static int segv_after_fork_child(struct rb_context *ctx, struct rb_error *error)
{
	(void)ctx;
	(void)error;
	rb_ranges_after_fork(segv.ranges);
	return 0;
}

static void segv_teardown(struct rb_context *ctx)
{
	(void)sigaction(SIGSEGV, &segv.before, NULL);
	rb_ranges_close(ctx, segv.ranges);
	segv.ctx = NULL;
}

static const struct rb_mechanism segv_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "segv",
	.applies_pattern = true,
	.owns_signals = true,
	.stops_system_calls = true,
	.setup = segv_setup,
	.map = segv_map,
	.forget = segv_forget,
	.after_fork_child = segv_after_fork_child,
	.teardown = segv_teardown,
};
RB_REGISTER(segv_mechanism);
