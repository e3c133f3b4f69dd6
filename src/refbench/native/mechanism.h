/* SPDX-License-Identifier: MIT */
/*
 * A mechanism: one C file behind this interface.
 *
 * The same file serves three front ends: the agent, the Python module refbench.native and (later)
 * the malloc interposer. It must not allocate with malloc, print, or exit. Everything that it
 * needs later is made in setup(), which no workload's time contains; map() and everything after
 * may be timed. Several threads may call map() and forget() of one context at the same time.
 * A mechanism that owns signals passes faults outside its own mappings on to the handler that was
 * installed before its own.
 */
#ifndef REFBENCH_MECHANISM_H
#define REFBENCH_MECHANISM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RB_API_VERSION 1
#define RB_MAX_OPTIONS 8
#define RB_PRIVATE_WORDS 32

/* Why something did not work. The agent's failure kinds. */
enum rb_failure {
	RB_OK = 0,
	RB_UNSUPPORTED,
	RB_LIMIT_HIT,
	RB_WRONG_CONTENT,
	RB_USAGE,
	RB_CRASHED,		/* a program that the agent executed */
};

/* Filled in by the function that fails; what it says goes to the user as it is. */
struct rb_error {
	enum rb_failure kind;
	int err;		/* errno, 0 if there is none */
	uint64_t wanted;	/* RB_LIMIT_HIT: what was needed ... */
	uint64_t limit;		/* ... and what there is */
	char message[256];	/* one sentence: what happened, to what */
	char remedy[256];	/* one sentence: what the user can do */
};

/* The content of one page, page_size bytes, valid as long as the context. */
struct rb_pattern {
	const unsigned char *page;
	bool is_byte;		/* every byte of the page is `byte` */
	unsigned char byte;
};

/* Counters that the kernel does not keep. They live in memory shared with forked children. */
struct rb_counters {
	atomic_uint_least64_t syscalls;
	atomic_uint_least64_t sigbus;
	atomic_uint_least64_t sigsegv;
	atomic_uint_least64_t uffd_messages;
};

/* One option as given: SPEC's key and value; switches have the value "yes". */
struct rb_option {
	const char *key;
	const char *value;
};

struct rb_context {
	size_t page_size;
	struct rb_pattern pattern;
	struct rb_counters *counters;
	struct rb_option options[RB_MAX_OPTIONS];
	size_t option_count;
	bool unprivileged;	/* set by setup(): a privileged way was not open */
	bool pattern_lost;	/* set by after_fork_child(): untouched pages read as zero now */
	uint64_t private_words[RB_PRIVATE_WORDS];	/* the mechanism's own state, zeroed */
};

enum rb_map_flags {
	RB_MAP_POPULATE = 1,
};

enum rb_tamper {
	RB_TAMPER_WRITE,
	RB_TAMPER_TRUNCATE,
	RB_TAMPER_UNMAP,
};

enum rb_refer_flags {
	RB_REFER_COMPAT = 1,	/* by 32-bit system calls; the page lies between 2 and 4 GiB */
	RB_REFER_SIGNED = 2,	/* and its address was sign-extended on the way to the offset */
};

struct rb_mechanism {
	unsigned int api_version;	/* RB_API_VERSION */
	const char *name;
	bool applies_pattern;		/* false: clean pages read as zero */
	bool owns_signals;		/* installs SIGSEGV or SIGBUS handlers */
	bool fills_at_malloc;		/* maps clean memory; the malloc interposer fills all of it */
	bool purge_restores;		/* MADV_DONTNEED brings the pattern back */
	bool stops_system_calls;	/* the kernel's own accesses to clean pages fail: EFAULT */

	/*
	 * Open, check and prepare. Returns 0, or -1 with *error filled in.
	 * Reads its options with rb_option_*() and leaves the rest alone.
	 */
	int (*setup)(struct rb_context *ctx, struct rb_error *error);

	/*
	 * Map size bytes (a multiple of the page size) exactly at addr, or anywhere when addr
	 * is NULL. Returns the address, or NULL with *error filled in.
	 * Partial work is undone before a failure is returned.
	 */
	void *(*map)(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
		     struct rb_error *error);

	/* All of the following may be NULL. */

	/* The range is about to be unmapped by the front end. */
	void (*forget)(struct rb_context *ctx, void *addr, size_t size);

	/* Wait, untimed, until background work is done (KSM). */
	int (*settle)(struct rb_context *ctx, struct rb_error *error);

	/* Called in a forked child before it does anything else, and in the parent before fork. */
	int (*before_fork)(struct rb_context *ctx, struct rb_error *error);
	int (*after_fork_child)(struct rb_context *ctx, struct rb_error *error);

	/* Bytes of files and other memory that the process's RSS does not show. */
	uint64_t (*held)(struct rb_context *ctx);

	/* Change the reference page behind the mapping's back. 0, or -1 with errno set. */
	int (*tamper)(struct rb_context *ctx, enum rb_tamper action);

	/*
	 * Take the page at content, which may be no page at all, for the reference page of the
	 * mappings to come. It stays there as long as they. 0, or -1 with errno set.
	 */
	int (*refer)(struct rb_context *ctx, const void *content, unsigned int flags);

	/* "key=value;key=value" facts of this set-up worth recording, into buf. */
	void (*facts)(struct rb_context *ctx, char *buf, size_t size);

	/* Undo setup(). The process may be about to exit. */
	void (*teardown)(struct rb_context *ctx);
};

/*
 * Registers a mechanism with every front end that this file is linked into:
 *	RB_REGISTER(memset_mechanism);
 */
#define RB_REGISTER(m)                                                                             \
	static const struct rb_mechanism *const rb_registered_##m                                  \
		__attribute__((used, retain, section("rb_mechanisms"))) = &(m)

/* ---- the library, for mechanisms and front ends (library.c) ---- */

/* Look up by name; NULL if there is none. Iterate with index until NULL. */
const struct rb_mechanism *rb_mechanism_find(const char *name, size_t length);
const struct rb_mechanism *rb_mechanism_at(size_t index);

/* Options as text, whole number, size in bytes ("64KiB"), switch. -1 and *error on nonsense. */
const char *rb_option_text(const struct rb_context *ctx, const char *key);
int rb_option_number(const struct rb_context *ctx, const char *key, uint64_t fallback,
		     uint64_t *out, struct rb_error *error);
int rb_option_switch(const struct rb_context *ctx, const char *key, bool fallback, bool *out,
		     struct rb_error *error);

/* Fill *error; the message is formatted without allocation (%s %zu %llu %d). Return -1. */
int rb_fail(struct rb_error *error, enum rb_failure kind, int err, const char *remedy,
	    const char *format, ...) __attribute__((format(printf, 5, 6)));
int rb_fail_limit(struct rb_error *error, uint64_t wanted, uint64_t limit, const char *remedy,
		  const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Fill [addr, addr+size) with the pattern, the fast way for a byte pattern. */
void rb_fill(const struct rb_context *ctx, void *addr, size_t size);

/* System calls that count themselves in ctx->counters. */
void *rb_mmap(struct rb_context *ctx, void *addr, size_t size, int prot, int flags, int fd,
	      int64_t offset);
int rb_munmap(struct rb_context *ctx, void *addr, size_t size);
int rb_mprotect(struct rb_context *ctx, void *addr, size_t size, int prot);
int rb_madvise(struct rb_context *ctx, void *addr, size_t size, int advice);

/*
 * What map() usually needs: a new mapping exactly at addr, or anywhere when addr is NULL. Never
 * replaces one that is there. MAP_FIXED_NOREPLACE is added, the rest of flags is passed on.
 * NULL with *error filled in: which limit the kernel met, where it is known.
 */
void *rb_map_new(struct rb_context *ctx, void *addr, size_t size, int prot, int flags, int fd,
		 int64_t offset, struct rb_error *error);

/* The same for readable and writable anonymous memory; flags are those of map(). */
void *rb_map_anonymous(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
		       struct rb_error *error);

/* *error for a mapping of size bytes that the kernel refused with errno err. Returns -1. */
int rb_fail_map(struct rb_error *error, size_t size, int err);

/* Add to a counter of ctx->counters; safe in signal handlers and from any thread. */
void rb_count(atomic_uint_least64_t *counter);

/* A whole number read from a /proc or /sys file; -1 if it cannot be read. */
int64_t rb_read_number(const char *path);

/* The number behind key in a file of "key: number" or "key number" lines; -1 if there is none. */
int64_t rb_read_field(const char *path, const char *key);

/* VMAs of this process, counted in /proc/self/maps; -1 if that cannot be read. */
int64_t rb_count_vmas(void);

#endif
