/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd MISSING with a handler thread: it reads a message for every first touch and copies
 * the page. events=fork: it also receives the descriptors of forked children and serves them.
 * atfork: the child opens its own, registers its ranges anew and starts its own thread.
 */
#include "userfault.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define STACK_BYTES (128u << 10)  /* PTHREAD_STACK_MIN of arm64 */
#define STACK_PRESENT (16u << 10) /* several times what serve() takes, thread data included */
#define MOST_CHILDREN 1000
#define MESSAGES 16

enum { STOP, OWN, CHILDREN }; /* indexes into polled */

/* Private: a forked child changes its own copy. */
struct uffd {
	struct rb_context *ctx;
	struct rb_ranges *ranges; /* atfork only */
	bool events, atfork, running;
	unsigned int depth; /* of forks; picks a stack that no thread of the parent runs on */
	pthread_t thread;
	nfds_t count;
	struct pollfd polled[CHILDREN + MOST_CHILDREN];
	unsigned char stacks[2][STACK_BYTES] __attribute__((aligned(64)));
};

static struct uffd *of(struct rb_context *ctx)
{
	return (struct uffd *)(uintptr_t)ctx->private_words[0];
}

/* ---- the handler thread: its own memory is present, and it never touches a mapped range ---- */

/* A process that has ended answers ESRCH; a living one has nothing registered at our own stack. */
static void drop_ended_children(struct uffd *u)
{
	nfds_t kept = CHILDREN;

	for (nfds_t i = CHILDREN; i < u->count; i++) {
		if (rb_userfault_copy(u->ctx, u->polled[i].fd, (uintptr_t)u->stacks) == ESRCH)
			rb_userfault_close(u->ctx, &u->polled[i].fd);
		else
			u->polled[kept++] = u->polled[i];
	}
	u->count = kept;
}

/* Without room the descriptor is closed and the child's pages read zero: wrong, and seen. */
static void add_child(struct uffd *u, int fd)
{
	if (u->count == CHILDREN + MOST_CHILDREN)
		drop_ended_children(u);
	if (u->count == CHILDREN + MOST_CHILDREN) {
		rb_userfault_close(u->ctx, &fd);
		return;
	}
	u->polled[u->count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

static void serve_one(struct uffd *u, int fd)
{
	struct uffd_msg messages[MESSAGES];
	ssize_t got;

	rb_count(&u->ctx->counters->syscalls);
	got = read(fd, messages, sizeof(messages));
	for (ssize_t i = 0; i < got / (ssize_t)sizeof(messages[0]); i++) {
		rb_count(&u->ctx->counters->uffd_messages);
		if (messages[i].event == UFFD_EVENT_PAGEFAULT)
			(void)rb_userfault_copy(u->ctx, fd,
						(uintptr_t)messages[i].arg.pagefault.address);
		else if (messages[i].event == UFFD_EVENT_FORK)
			add_child(u, (int)messages[i].arg.fork.ufd);
	}
}

static void *serve(void *argument)
{
	struct uffd *u = argument;

	for (;;) {
		nfds_t count = u->count;
		int ready = poll(u->polled, count, -1);

		/* Counted when it returns: the faulting thread has ended its phase before the next. */
		rb_count(&u->ctx->counters->syscalls);
		if (ready < 0)
			continue;
		if (u->polled[STOP].revents)
			return NULL;
		for (nfds_t i = OWN; i < count; i++)
			if (u->polled[i].revents)
				serve_one(u, u->polled[i].fd);
	}
}

static int start_thread(struct uffd *u)
{
	unsigned char *stack = u->stacks[u->depth % 2];
	pthread_attr_t attributes;
	sigset_t all, before;
	int err = pthread_attr_init(&attributes);

	if (err)
		return err;
	err = pthread_attr_setstack(&attributes, stack, STACK_BYTES);
	/* No handler of the front end shall ever run in this thread. */
	if (!err && (sigfillset(&all) || pthread_sigmask(SIG_SETMASK, &all, &before)))
		err = EINVAL;
	if (!err) {
		err = pthread_create(&u->thread, &attributes, serve, u);
		u->running = !err;
		if (pthread_sigmask(SIG_SETMASK, &before, NULL) && !err)
			err = EINVAL;
	}
	(void)pthread_attr_destroy(&attributes);
	return err;
}

/* ---- the front end's side ---- */

static int open_own(struct uffd *u, struct rb_error *error)
{
	struct rb_context *ctx = u->ctx;
	int err;

	u->count = CHILDREN;
	u->polled[STOP] = (struct pollfd){ .fd = eventfd(0, EFD_CLOEXEC), .events = POLLIN };
	u->polled[OWN] = (struct pollfd){ .fd = -1, .events = POLLIN };
	rb_count(&ctx->counters->syscalls);
	if (u->polled[STOP].fd < 0)
		return rb_fail(error, RB_UNSUPPORTED, errno, "Raise ulimit -n.",
			       "eventfd(2) failed: %s.", strerror(errno));
	u->polled[OWN].fd =
		rb_userfault_open(ctx, u->events ? UFFD_FEATURE_EVENT_FORK : 0, error);
	if (u->polled[OWN].fd < 0)
		return -1;
	err = start_thread(u);
	if (!err)
		return 0;
	return rb_fail(error, RB_UNSUPPORTED, err, "Raise the limit of processes (ulimit -u).",
		       "The thread that handles userfaults could not be started: %s.",
		       strerror(err));
}

static void close_all(struct uffd *u)
{
	for (nfds_t i = 0; i < u->count; i++)
		rb_userfault_close(u->ctx, &u->polled[i].fd);
	u->count = 0;
}

static int read_options(struct uffd *u, struct rb_error *error)
{
	const char *events = rb_option_text(u->ctx, "events");

	if (rb_option_switch(u->ctx, "atfork", false, &u->atfork, error))
		return -1;
	if (events && strcmp(events, "none") && strcmp(events, "fork"))
		return rb_fail(error, RB_USAGE, 0, "Write events=fork or events=none.",
			       "uffd knows no events=%s.", events);
	u->events = events && !strcmp(events, "fork");
	if (u->events && u->atfork)
		return rb_fail(error, RB_USAGE, 0, "Use events=fork or atfork.",
			       "A child's ranges cannot be served by its parent and by itself.");
	return 0;
}

static void uffd_teardown(struct rb_context *ctx)
{
	struct uffd *u = of(ctx);
	uint64_t one = 1;

	if (!u)
		return;
	/* Nothing else writes to this eventfd, so that its count has room. */
	if (u->running && write(u->polled[STOP].fd, &one, sizeof(one)) == sizeof(one))
		(void)pthread_join(u->thread, NULL);
	close_all(u);
	rb_ranges_close(ctx, u->ranges);
	(void)rb_munmap(ctx, u, sizeof(*u));
	ctx->private_words[0] = 0;
}

static int uffd_setup(struct rb_context *ctx, struct rb_error *error)
{
	struct uffd *u = rb_map_new(ctx, NULL, sizeof(*u), PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, error);

	if (!u)
		return -1;
	memset(u, 0, offsetof(struct uffd, stacks));
	/* That of a forked child's thread as well: it may start in a timed map(). */
	for (int i = 0; i < 2; i++)
		memset(u->stacks[i] + STACK_BYTES - STACK_PRESENT, 0, STACK_PRESENT);
	u->ctx = ctx;
	ctx->private_words[0] = (uintptr_t)u;
	if (!read_options(u, error) &&
	    (!u->atfork || (u->ranges = rb_ranges_open(ctx, error))) && !open_own(u, error))
		return 0;
	uffd_teardown(ctx);
	return -1;
}

static void *uffd_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
		      struct rb_error *error)
{
	struct uffd *u = of(ctx);
	void *got;

	/* A forked child that maps memory of its own needs what its parent made in setup(). */
	if (!u->running && open_own(u, error)) {
		close_all(u);
		return NULL;
	}
	got = rb_userfault_map(ctx, u->polled[OWN].fd, addr, size, flags, error);
	if (!got || !u->ranges || !rb_ranges_add(u->ranges, got, size, error))
		return got;
	if (rb_munmap(ctx, got, size))
		rb_fail_map(error, size, errno);
	return NULL;
}

static void uffd_forget(struct rb_context *ctx, void *addr, size_t size)
{
	if (of(ctx)->ranges)
		rb_ranges_remove(of(ctx)->ranges, addr, size);
}

/* The descriptors are the parent's and serve its memory; its thread is not here. */
static int uffd_after_fork_child(struct rb_context *ctx, struct rb_error *error)
{
	struct uffd *u = of(ctx);

	close_all(u);
	u->running = false;
	u->depth++;
	ctx->pattern_lost = !u->atfork && !u->events;
	if (!u->atfork)
		return 0;
	rb_ranges_after_fork(u->ranges);
	if (open_own(u, error))
		return -1;
	return rb_userfault_register_all(ctx, u->polled[OWN].fd, u->ranges, error);
}

static const struct rb_mechanism uffd_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "uffd",
	.applies_pattern = true,
	.purge_restores = true,
	.setup = uffd_setup,
	.map = uffd_map,
	.forget = uffd_forget,
	.after_fork_child = uffd_after_fork_child,
	.facts = rb_userfault_facts,
	.teardown = uffd_teardown,
};
RB_REGISTER(uffd_mechanism);
