/* SPDX-License-Identifier: MIT */
/* What refbench.native calls: the members of a mechanism as functions, for cffi. */
#ifndef REFBENCH_BINDING_H
#define REFBENCH_BINDING_H

#include "mechanism.h"

static int rb_setup(const struct rb_mechanism *m, struct rb_context *ctx, struct rb_error *error)
{
	return m->setup(ctx, error);
}

static void *rb_map(const struct rb_mechanism *m, struct rb_context *ctx, size_t size,
		    unsigned int flags, struct rb_error *error)
{
	return m->map(ctx, NULL, size, flags, error);
}

static int rb_unmap(const struct rb_mechanism *m, struct rb_context *ctx, void *addr, size_t size)
{
	if (m->forget)
		m->forget(ctx, addr, size);
	return rb_munmap(ctx, addr, size);
}

static int rb_settle(const struct rb_mechanism *m, struct rb_context *ctx, struct rb_error *error)
{
	return m->settle ? m->settle(ctx, error) : 0;
}

static int rb_before_fork(const struct rb_mechanism *m, struct rb_context *ctx,
			  struct rb_error *error)
{
	return m->before_fork ? m->before_fork(ctx, error) : 0;
}

static int rb_after_fork_child(const struct rb_mechanism *m, struct rb_context *ctx,
			       struct rb_error *error)
{
	return m->after_fork_child ? m->after_fork_child(ctx, error) : 0;
}

static uint64_t rb_held(const struct rb_mechanism *m, struct rb_context *ctx)
{
	return m->held ? m->held(ctx) : 0;
}

static void rb_facts(const struct rb_mechanism *m, struct rb_context *ctx, char *buf, size_t size)
{
	buf[0] = '\0';
	if (m->facts)
		m->facts(ctx, buf, size);
}

static void rb_teardown(const struct rb_mechanism *m, struct rb_context *ctx)
{
	if (m->teardown)
		m->teardown(ctx);
}

/* In the order of struct rb_counters. */
static void rb_read_counters(const struct rb_context *ctx, uint64_t out[4])
{
	out[0] = atomic_load(&ctx->counters->syscalls);
	out[1] = atomic_load(&ctx->counters->sigbus);
	out[2] = atomic_load(&ctx->counters->sigsegv);
	out[3] = atomic_load(&ctx->counters->uffd_messages);
}

#endif
