/* SPDX-License-Identifier: MIT */
/*
 * The malloc interposer: jemalloc hands out, a mechanism supplies the memory that it hands out,
 * and what is not fresh any more is filled. One file a task:
 *
 *	entry.c		the functions of malloc's family that the program calls
 *	start.c		the environment, the mechanism, jemalloc; failing before the program begins
 *	early.c		memory for callers that come before that is done
 *	backing.c	jemalloc's extent hooks: memory from the mechanism, purging, giving back
 *	fresh.c		which bytes were handed out since their memory was fresh
 *	handout.c	filling, and the checking mode
 *	threads.c	arenas for threads; fork
 *	report.c	numbers at exit
 *	record*.c	the heap trace
 *
 * Nothing here calls malloc. Nothing here holds a lock that a fork could leave behind.
 */
#ifndef REFBENCH_INTERPOSER_H
#define REFBENCH_INTERPOSER_H

#include "mechanism.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RB_GRANULE 16		/* bytes that one bit of freshness stands for */
#define RB_EXIT_REFUSED 125	/* exit status when the program could not begin */

#define RB_LIKELY(x) __builtin_expect(!!(x), 1)
#define RB_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- what everybody may read (start.c sets it before the first hand-out) ---- */

extern const struct rb_mechanism *rb_mechanism;
extern struct rb_context rb_context;
extern bool rb_checking;		/* verify the pattern at every hand-out */
extern size_t rb_small_most;		/* jemalloc's largest small size class, in bytes */

/* ---- recording: what a heap trace is made of ---- */

/*
 * All of it is called on the thread that it happens on, before the program goes on, and may be
 * called from several threads at once. None may call malloc, fork or exit.
 */
struct rb_recorder {
	/*
	 * Backing memory: addr and size are whole pages. zero: no mechanism's, but plain memory
	 * for large callocs. purged(): its pages are clean again.
	 */
	void (*mapped)(void *addr, size_t size, bool zero);
	void (*unmapped)(void *addr, size_t size);
	void (*purged)(void *addr, size_t size);

	/*
	 * size bytes of a block of `usable` bytes, just handed out; zeroed: by calloc. Grown in
	 * place, a block is handed out again with its new size. Before each, span() tells its
	 * maximal runs of fresh and of reused memory in ascending order, granules each: a small
	 * block's all of its usable bytes, a large one's the requested ones that are new to it.
	 */
	void (*span)(void *addr, size_t size, bool fresh);
	void (*handed_out)(void *addr, size_t size, size_t usable, bool zeroed);
	void (*freed)(void *addr, size_t usable);

	/* The first call of malloc's family on a thread, and its end if there was one. */
	void (*thread_began)(void);
	void (*thread_ended)(void);

	/* In the parent before and after, in the child after; pthread_atfork's order. */
	void (*before_fork)(void);
	void (*after_fork_parent)(void);
	void (*after_fork_child)(void);

	/* The program is about to exit. */
	void (*finish)(void);
};

extern const struct rb_recorder *rb_recorder;	/* NULL: nothing is recorded */

/*
 * Called once before the first hand-out when REFBENCH_TRACE is set. NULL with *error filled in
 * when it cannot record there.
 */
const struct rb_recorder *rb_recorder_open(const char *path, struct rb_error *error)
	__attribute__((weak));

#define RB_RECORD(event, ...)                                                                      \
	do {                                                                                       \
		if (RB_UNLIKELY(rb_recorder != NULL))                                              \
			rb_recorder->event(__VA_ARGS__);                                           \
	} while (0)

/* ---- start.c ---- */

/* Makes everything ready on the first call of the process. false: it is being made ready. */
bool rb_start(void);

/* One line on stderr and exit status RB_EXIT_REFUSED, without running exit handlers. */
void rb_refuse(const struct rb_error *error) __attribute__((noreturn));

/* Formatted, on stderr, in one write; cut after a few hundred bytes. */
void rb_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- early.c ---- */

void *rb_early_alloc(size_t align, size_t size);	/* zeroed; NULL when there is no more */
bool rb_early_owns(const void *addr);
size_t rb_early_size(const void *addr);

/* ---- backing.c ---- */

struct rb_backing_counts {
	atomic_uint_least64_t mapped;		/* bytes that the mechanism supplied, now */
	atomic_uint_least64_t mapped_most;	/* the same, at its peak */
	atomic_uint_least64_t zero;		/* bytes of zero memory for large callocs, now */
	atomic_uint_least64_t own;		/* bytes of zero memory for jemalloc's records */
	atomic_uint_least64_t maps;		/* calls of the mechanism's map() */
	atomic_uint_least64_t purged;		/* bytes whose pages went back to the kernel */
	atomic_uint_least64_t refused;		/* extents that the mechanism could not supply */
};

extern struct rb_backing_counts rb_backing_counts;

int rb_backing_start(struct rb_error *error);

/* Gives arena `index` of jemalloc the mechanism's memory; it must be unused so far. */
int rb_backing_take(unsigned int index, struct rb_error *error);

/* Makes an arena, of the mechanism's memory or of zero memory; `eager`: purged at once. */
int rb_backing_make(bool zero, bool eager, unsigned int *index, struct rb_error *error);

/* In a forked child in which the mechanism lost its pattern: nothing that was mapped is fresh. */
void rb_backing_forget_fresh(void);

/* Whether addr lies in memory that we supplied: the mechanism's, or zero memory for callocs. */
bool rb_backing_supplied(uintptr_t addr);

/* ---- fresh.c: memory that is not announced counts as reused ---- */

/*
 * Fresh memory and other memory are never announced in the same GiB. -1: there is no memory for
 * the bits.
 */
int rb_fresh_announce(uintptr_t addr, size_t size, bool fresh);
void rb_fresh_again(uintptr_t addr, size_t size);	/* purged: the pattern is back */
void rb_fresh_end(void);				/* no announced memory is fresh any more */

/*
 * The end of the run of equal freshness that begins at addr, at most `end`; *fresh says which.
 * All are multiples of RB_GRANULE.
 */
uintptr_t rb_fresh_run(uintptr_t addr, uintptr_t end, bool *fresh);
void rb_fresh_use(uintptr_t addr, uintptr_t end);

/* The requested bytes of the large block at addr; 0 where that is not known. */
size_t rb_fresh_requested(uintptr_t addr);
void rb_fresh_set_requested(uintptr_t addr, size_t size);

/* Whether addr lies within a GiB of which something was announced. */
bool rb_fresh_knows(uintptr_t addr);

/* Bytes of memory that the bits and sizes take up. */
uint64_t rb_fresh_memory(void);

/* ---- handout.c ---- */

struct rb_handout_counts {
	atomic_uint_least64_t handouts;
	atomic_uint_least64_t filled;	/* bytes filled at hand-out */
	atomic_uint_least64_t fresh;	/* bytes handed out as they were */
};

/* Of threads that flushed theirs; a running thread holds back less than a MiB. */
extern struct rb_handout_counts rb_handout_counts;

/*
 * size bytes of the block of `usable` bytes at addr go to the program. Its first `kept` bytes
 * are about to be copied there and need no fill. Returns addr.
 */
void *rb_hand_out(void *addr, size_t size, size_t usable, size_t kept);

/* The same after realloc(3) in place; its first `kept` bytes are the program's already. */
void *rb_hand_on(void *addr, size_t size, size_t usable, size_t kept);

/* The same for memory that calloc(3) zeroed, all usable bytes of it. */
void *rb_hand_out_zeroed(void *addr, size_t size, size_t usable);

void rb_handout_flush(void);

/* ---- threads.c ---- */

extern __thread bool rb_joined __attribute__((tls_model("initial-exec")));

int rb_threads_start(struct rb_error *error);

/* Gives the calling thread an arena of the program's. */
void rb_join(void);

/*
 * Around calls of the mechanism, which may start a thread: what that allocates is early memory,
 * for jemalloc may be holding locks, and the mechanism may not be ready. What to leave with.
 */
extern __thread bool rb_inside __attribute__((tls_model("initial-exec")));
bool rb_step_inside(void);
void rb_step_out(bool joined);

/* Flags of rbje_mallocx() for blocks of a size; 0: those of rbje_malloc() will do. */
int rb_place(size_t size, bool zero);

/* ---- report.c ---- */

void rb_report_start(const char *descriptor);

#endif
