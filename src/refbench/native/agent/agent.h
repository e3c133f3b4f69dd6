/* SPDX-License-Identifier: MIT */
/*
 * The agent: interprets a program file under one mechanism and prints what it cost.
 * docs/program-format.md describes the program and the protocol.
 *
 * What is written during a timed phase lives in two places only, both faulted in beforehand:
 * `shared`, which forked children write too, and the private data of the process (area.c).
 */
#ifndef REFBENCH_AGENT_H
#define REFBENCH_AGENT_H

#include "mechanism.h"

#include <setjmp.h>
#include <sys/resource.h>
#include <sys/types.h>

#define AGENT_VERSION "1"
#define MAX_DEPTH 16
#define MAX_REGIONS (1u << 20)
#define MAX_THREADS 1024
#define MAX_NAMES 64		/* phases, and labels, of one program */
#define NAME_SIZE 32
#define MAX_OBSERVATIONS 4096
#define TEXT_SIZE 32768
#define DETAIL_SIZE 96
#define MAX_FILES 64
#define MAX_VARIABLES 64
#define MAX_WORDS 65		/* of a line; one more than a step may have */

enum verb {
	V_PHASE, V_MEASURE, V_MAP, V_MAP_ANONYMOUS, V_UNMAP, V_TOUCH, V_HANDOUT, V_EXPECT, V_ADVISE,
	V_PROTECT, V_LOCK, V_UNLOCK, V_REMAP, V_KERNEL_READS, V_KERNEL_WRITES, V_USERFAULT,
	V_REFERENCE, V_DESCRIPTORS, V_SETTLE, V_KERNEL_LOG, V_EXECUTE, V_REPEAT, V_FORK, V_PARALLEL,
	V_THREADS, VERBS
};

enum access { A_READ = 1, A_WRITE = 2, A_READWRITE = 3 };
enum order { O_FORWARD, O_BACKWARD, O_RANDOM };
/* What the reference page is made from; they go on where enum rb_tamper ends. */
enum from {
	FROM_ANONYMOUS = RB_TAMPER_UNMAP + 1, FROM_FILE, FROM_SHARED, FROM_HUGETLB, FROM_MAPPING,
	FROM_DEVICE, FROM_UNMAPPED, FROM_INACCESSIBLE, FROM_COMPAT, FROM_COMPAT_SIGNED
};
enum past { P_FRESH, P_REUSED, P_PURGED };
enum content { C_PATTERN, C_ZERO, C_BYTE };
enum via { VIA_WRITE, VIA_DIRECT, VIA_VMREADV, VIA_PROCMEM, VIA_CORE, VIA_READ, VIA_VMWRITEV };

/*
 * One step. Blocks are flat: the body of step i is [i + 1, end), of a fork the child's is
 * [i + 1, middle) and the parent's [middle, end).
 */
struct step {
	uint8_t verb;
	bool flag;		/* populate, shared, once, parent-first, loop, mark */
	uint8_t access;
	uint8_t order;
	uint8_t content;
	uint8_t value;
	uint8_t via;
	int choice;		/* madvise advice, protection, plain, past, rb_tamper or from ... */
	uint32_t line;
	uint32_t region;
	uint32_t other;		/* remap's target, map-anonymous's AFTER */
	uint32_t middle;
	uint32_t end;
	uint64_t offset;
	uint64_t length;
	uint64_t stride;
	uint64_t size;
	uint64_t seed;
	uint64_t count;		/* of touch, handout, repeat and threads */
};

struct region {
	unsigned char *base;
	uint64_t size;		/* as mapped now; 0: not mapped */
	uint64_t most;		/* largest size in the program */
	bool anonymous;		/* by map-anonymous */
	bool mechanism;		/* mapped now by the mechanism */
	bool used;		/* mapped at some time in this sample */
};

struct program {
	struct step *steps;
	uint32_t count;
	bool observe_all;
	struct region *regions;
	uint32_t region_count;
	uint32_t threads;	/* most at a time */
	uint64_t observations;	/* at most so many, loops not counted */
	char phases[MAX_NAMES][NAME_SIZE];
	int phase_count;
	char labels[MAX_NAMES][NAME_SIZE];
	int label_count;
	char **words;		/* of execute steps: where a step's begin is its `offset` */
	int exit_label;		/* of the snapshots of executed programs */
};

struct phase_total {
	uint64_t ns, user_ns, system_ns, minor_faults, major_faults;
	uint64_t syscalls, sigbus, sigsegv, uffd_messages, entries;
};

/* The fields of refbench.samples.MemorySnapshot, in its order. -1: not readable here. */
enum memory_field {
	M_RSS, M_RSS_ANON, M_RSS_FILE, M_RSS_SHMEM, M_HWM, M_PTE, M_VMAS, M_PSS, M_USS, M_SWAP,
	M_KSM, M_HELD, M_SYS_SHMEM, M_SYS_SLAB, M_SYS_PAGETABLES, M_SYS_AVAILABLE,
	M_CGROUP_CURRENT, M_CGROUP_PEAK, M_CGROUP_ANON, M_CGROUP_FILE, M_CGROUP_SHMEM,
	M_CGROUP_KERNEL, M_CGROUP_PAGETABLES, M_CGROUP_SLAB, MEMORY_FIELDS
};

struct snapshot {
	bool taken;
	bool executed;		/* of a program that was executed, at its end */
	int64_t field[MEMORY_FIELDS];
};

struct observation {
	uint32_t line;
	uint8_t verb;
	bool ok;
	bool trapped;		/* a signal, not the kernel's refusal */
	int err;
	uint64_t errors;
	uint64_t offset;
	uint8_t got;
	uint8_t wanted;
	char detail[DETAIL_SIZE];
};

struct shared {
	struct rb_counters counters;
	atomic_int stopped;
	struct rb_error error;	/* why, when stopped */
	atomic_uint observed;
	struct phase_total phases[MAX_NAMES];
	struct snapshot memory[MAX_NAMES];
	struct rb_error probe;	/* what a probing child found */
	char text[TEXT_SIZE];	/* a file of /proc, a line of the kernel log */
	char out[2 * TEXT_SIZE];
};

/* Which thread of a group does the steps. */
struct task {
	uint32_t index;
	uint32_t count;		/* 0: not in a group */
};

/* What the session brought for programs to execute: `NAME=PLACE`, `NAME=VALUE`. */
struct outside {
	const char *loader, *libraries;
	const char *files[MAX_FILES];
	const char *environment[MAX_VARIABLES];
	size_t file_count, variable_count;
};

struct options {
	struct outside outside;
	const char *program, *mechanism, *pattern, *pattern_file, *cgroup_dir, *scratch;
	uint64_t iterations;
	bool thp, probe, api;
	int cgroup;		/* 0, 1 or 2 */
};

extern struct shared *shared;
extern struct observation *observations;
extern uint32_t observation_slots;
extern struct program program;
extern struct options options;
extern struct rb_context context;
extern const struct rb_mechanism *mechanism;
extern uint64_t sample_index;
extern const char *const verb_names[VERBS];

/* area.c: memory of our own */
void *area_new(size_t size, bool for_children);
int area_shared(void);
int area_note(void);
int area_note_setup(bool done);
void area_prefault(void);
void area_prefault_slot(void *slot, size_t size);

/* arguments.c */
int arguments_read(int argc, char **argv, struct rb_error *error);
int mechanism_choose(const char *spec, struct rb_error *error);
int pattern_make(struct rb_error *error);

/* parse.c, parse_steps.c, parse_execute.c, layout.c */
struct parser {
	const char *source;
	char *at;		/* what follows the line that is being read */
	uint32_t line;
	char **words;
	int count;
	uint64_t times;		/* how often the step at hand may run, up to MAX_OBSERVATIONS */
	bool in_threads;
	int in_fork;
	size_t size;		/* bytes of the whole text */
	struct rb_error *error;
};
int program_read(const char *path, struct rb_error *error);
int program_place(const char *path, struct rb_error *error);
bool step_has_region(const struct step *s);
int parse_step(struct parser *p, struct step *s);
int parse_execute(struct parser *p, struct step *s);
int parse_file(struct parser *p);
int parse_environment(struct parser *p);
int parse_label(struct parser *p, const char *word, int *out);
int parse_fail(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
int parse_number(struct parser *p, const char *word, uint64_t least, uint64_t most, uint64_t *out);
int parse_only(struct parser *p, int count);
bool parse_flag(struct parser *p, const char *name);

/* phase.c */
uint64_t now_ns(void);
/* The phases that the agent enters by itself. */
enum { PHASE_SETUP, PHASE_ATFORK };

void phase_enter(int id);	/* -1: none */
int phase_stop(void);		/* stop the clock; what phase_go() takes to start it again */
void phase_go(int id);
void phase_forget(void);

/* memory.c */
int memory_start(void);
void memory_measure(int label, pid_t of);	/* 0: of this process */
extern const char *const memory_names[MEMORY_FIELDS];

/* guard.c: a fault that nobody resolves */
struct trap {
	int signal;		/* 0: none */
	uintptr_t address;
};
int guard_install(void);
int guard_thread(void *stack, size_t size);
void guard_run(void (*function)(void *), void *argument, struct trap *trap);

/* touch.c */
uint64_t place_permuted(uint64_t k, uint64_t n, uint64_t seed);
int touch_run(const struct task *task, const struct step *s);

/* handout.c */
int handout_run(const struct step *s);

/* check.c */
struct check {
	const struct step *step;
	struct observation seen;
};
void check_bytes(struct check *check, uint64_t offset, const unsigned char *bytes, size_t count);
void check_missing(struct check *check, uint64_t offset, uint64_t count);
void observe_trap(struct observation *seen, const struct region *region, const struct trap *trap);
struct observation observation_of(const struct step *s);
void detail_set(struct observation *seen, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
int observe(const struct observation *seen);
int run_stop(const struct rb_error *error);
int expect_run(const struct step *s);

/* kernel_access.c, userfault.c, core.c, kernel_log.c */
int kernel_reads_run(const struct step *s);
int kernel_writes_run(const struct step *s);
int userfault_run(const struct step *s);
void core_read(struct check *check);
int kernel_log_run(const struct step *s);

/* reference.c */
int reference_run(const struct step *s);
void reference_forget(void);

/* descriptors.c */
int descriptors_count(void);
int descriptors_run(const struct step *s);

/* merging.c: pages that the program offered to samepage merging */
void merging_note(const struct step *s);
void merging_forget(void);
void merging_settle(void);

/* fork.c, threads.c */
int fork_run(uint32_t at);
pid_t fork_child(struct rb_error *error);
int fork_after(struct rb_error *error);
int threads_prepare(struct rb_error *error);
int parallel_run(uint32_t at);

/* execute.c, child.c */
int execute_prepare(struct rb_error *error);
int execute_run(const struct step *s);
void execute_forget(void);
void execute_out(void);
const char *execute_log(void);

struct child {
	char **argv;
	int values;		/* a file that becomes its descriptor 3 */
	int complaints;		/* a pipe that becomes its standard error */
	pid_t pid;
	volatile int failed;	/* errno of what failed before it ran the program, and ... */
	const char *volatile what;	/* ... the call */
	uint64_t began, ns;	/* its clock, which stands while its memory is read */
	bool running;		/* it runs the program */
	bool ended;
	int status;
	struct rusage usage;
};
int child_run(struct child *child, char **environment, void (*at_exit)(pid_t),
	      void (*heard)(const char *, size_t), struct rb_error *error);

/* run.c */
int block_run(const struct task *task, uint32_t from, uint32_t to);
int sample_run(void);

/* output.c, sha256.c */
void out_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
void out_string(const char *text);
int out_flush(void);
int out_end(int rc);
void out_agent(const char *facts);
void out_sample(void);
void out_failure(const struct rb_error *error);
void out_mechanism(const char *name, const struct rb_error *error);

struct sha256 {
	uint32_t state[8];
	uint64_t length;
	unsigned char block[64];
};
void sha256_start(struct sha256 *sum);
void sha256_add(struct sha256 *sum, const void *data, size_t size);
void sha256_end(struct sha256 *sum, unsigned char digest[32]);

/* probe.c */
int probe_all(void);

#endif
