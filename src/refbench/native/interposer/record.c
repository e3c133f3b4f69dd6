/* SPDX-License-Identifier: MIT */
/* The recorder's calls, in the program: each puts an event into the ring. See record.h. */
#include "interposer.h"
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INITIAL __attribute__((tls_model("initial-exec")))
#define PATIENCE_NS 50000
#define PROCESS_DIGITS 10
#define LOOK_EVERY 2000		/* naps between two looks whether the other process is there */

struct span {
	void *addr;
	size_t size;
	bool fresh;
};

static struct record_ring *ring;
static struct record_setup setup;
static int wake = -1;		/* our end of the pipe */
static atomic_bool recording;
static __thread uint32_t thread INITIAL;
static __thread struct span first INITIAL;
static __thread unsigned int spans INITIAL;

/* The other process has gone: the program goes on, and the file has no end. */
static void give_up(void)
{
	if (atomic_exchange(&recording, false))
		rb_say("refbench: the process that wrote the trace %s is gone.\n", setup.path);
}

static bool is_alone(void)
{
	struct pollfd end = { wake, 0, 0 };

	return poll(&end, 1, 0) > 0;
}

/* One moment of waiting for the other process. false: it will not come. */
static bool nap(unsigned int *naps)
{
	const struct timespec moment = { 0, PATIENCE_NS };
	int err = errno;

	if (++*naps % LOOK_EVERY == 0 && is_alone()) {
		give_up();
		return false;
	}
	if (*naps < 64)
		sched_yield();
	else
		nanosleep(&moment, NULL);
	errno = err;
	return true;
}

/* The number of the event, plus 1; 0 when nothing is recorded. */
static uint64_t put(enum record_kind kind, const void *addr, uint64_t length)
{
	struct record_slot *slot;
	unsigned int naps = 0;
	uint64_t number;

	if (!atomic_load_explicit(&recording, memory_order_relaxed))
		return 0;
	if (!thread)
		thread = (uint32_t)syscall(SYS_gettid);
	number = atomic_fetch_add_explicit(&ring->head, 1, memory_order_relaxed);
	while (number - atomic_load_explicit(&ring->tail, memory_order_acquire) >= RECORD_SLOTS)
		if (!nap(&naps))
			return 0;
	slot = &ring->slots[number % RECORD_SLOTS];
	slot->event = (struct record_event){ (uintptr_t)addr, length, thread, (uint8_t)kind };
	atomic_store_explicit(&slot->turn, number + 1, memory_order_release);
	return number + 1;
}

/* Until the other process has taken care of an event. */
static void await(uint64_t number)
{
	unsigned int naps = 0;
	int err = errno;

	if (!number)
		return;
	/* A full pipe will wake it as well. */
	if (write(wake, "", 1) < 0 && errno != EAGAIN && errno != EINTR) {
		give_up();
		return;
	}
	errno = err;
	while (atomic_load_explicit(&ring->served, memory_order_acquire) < number)
		if (!nap(&naps))
			return;
}

static void mapped(void *addr, size_t size, bool zero)
{
	await(put(zero ? K_MAP_ZERO : K_MAP, addr, size));
}

static void unmapped(void *addr, size_t size)
{
	put(K_UNMAP, addr, size);
}

static void purged(void *addr, size_t size)
{
	put(K_PURGE, addr, size);
}

static void put_span(const struct span *s)
{
	put(s->fresh ? K_SPAN_FRESH : K_SPAN_REUSED, s->addr, s->size);
}

static void span(void *addr, size_t size, bool fresh)
{
	struct span now = { addr, size, fresh };

	if (!spans++) {
		first = now;
		return;
	}
	if (spans == 2)
		put_span(&first);
	put_span(&now);
}

/* Most blocks are of one piece, and told in one event. */
static void handed_out(void *addr, size_t size, size_t usable, bool zeroed)
{
	bool whole = spans == 1 && first.addr == addr && !zeroed;

	(void)usable;
	if (spans == 1 && !whole)
		put_span(&first);
	if (whole)
		put(first.fresh ? K_BLOCK_FRESH : K_BLOCK_REUSED, addr, size);
	else
		put(zeroed ? K_ZEROED : K_BLOCK, addr, size);
	spans = 0;
}

static void freed(void *addr, size_t usable)
{
	put(K_FREE, addr, usable);
}

static void thread_began(void)
{
	put(K_THREAD_BEGIN, NULL, 0);
}

static void thread_ended(void)
{
	put(K_THREAD_END, NULL, 0);
}

static void before_fork(void)
{
	put(K_FORK, NULL, 0);
}

static void after_fork_parent(void)
{
}

/* A child is another program: it is not recorded, and does not keep the other process waiting. */
static void after_fork_child(void)
{
	if (atomic_exchange(&recording, false))
		close(wake);
}

static int64_t microseconds(struct timeval t)
{
	return (int64_t)t.tv_sec * 1000000 + t.tv_usec;
}

static void finish(void)
{
	unsigned int naps = 0;
	struct rusage used;
	int size = 0;

	if (!atomic_load(&recording))
		return;
	if (!getrusage(RUSAGE_SELF, &used))
		size = snprintf(ring->end_facts, RECORD_FACTS,
				"minor-faults=%ld\nmajor-faults=%ld\nuser-us=%lld\n"
				"hwm=%lld\nrss-anon=%lld\nsupplied-most=%llu\n",
				used.ru_minflt, used.ru_majflt,
				(long long)microseconds(used.ru_utime),
				(long long)rb_read_field("/proc/self/status", "VmHWM") * 1024,
				(long long)rb_read_field("/proc/self/status", "RssAnon") * 1024,
				(unsigned long long)atomic_load(&rb_backing_counts.mapped_most));
	if (size < 0 || size >= RECORD_FACTS)
		ring->end_facts[0] = '\0';
	atomic_store(&recording, false);
	if (close(wake))
		return;
	/* Whoever waits for the program finds the file complete. */
	while (!atomic_load(&ring->done) && ++naps < 1200000) {
		const struct timespec moment = { 0, PATIENCE_NS };

		nanosleep(&moment, NULL);
	}
	if (atomic_load(&ring->failed))
		rb_say("refbench: the trace %s is not complete: %s.\n", setup.path,
		       strerror(atomic_load(&ring->failed)));
}

static const struct rb_recorder recorder = {
	.mapped = mapped, .unmapped = unmapped, .purged = purged,
	.span = span, .handed_out = handed_out, .freed = freed,
	.thread_began = thread_began, .thread_ended = thread_ended,
	.before_fork = before_fork, .after_fork_parent = after_fork_parent,
	.after_fork_child = after_fork_child, .finish = finish,
};

/* The command line, arguments parted by spaces; what is no printable ASCII shows as "?". */
static size_t put_command(char *to, size_t room)
{
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? 0 : read(fd, to, room);

	if (fd >= 0 && close(fd))
		got = 0;
	if (got < 0)
		got = 0;
	while (got && !to[got - 1])
		got--;
	for (ssize_t i = 0; i < got; i++) {
		if (!to[i])
			to[i] = ' ';
		else if (to[i] < ' ' || to[i] > '~')
			to[i] = '?';
	}
	return (size_t)got;
}

static int put_facts(void)
{
	struct utsname name;
	char command[2048];
	int size;

	command[put_command(command, sizeof(command) - 1)] = '\0';
	if (uname(&name))
		return -1;
	size = snprintf(ring->start_facts, RECORD_FACTS,
			"pid=%d\ncommand=%s\nmechanism=%s\narch=%s\nkernel=%s\n", getpid(),
			command, rb_mechanism->name, name.machine, name.release);
	return size < 0 || size >= RECORD_FACTS ? -1 : 0;
}

static int fail_file(const char *path, struct rb_error *error)
{
	return rb_fail(error, RB_USAGE, errno, "Name a file in a folder that can be written to.",
		       "The trace %.120s cannot be written: %s.", path, strerror(errno));
}

static int fail_setup(struct rb_error *error)
{
	return rb_fail(error, RB_LIMIT_HIT, errno, "", "The recorder cannot be set up: %s.",
		       strerror(errno));
}

static int out_of_the_way(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, RECORD_HIGH_FD);

	/* Where so high a number is not permitted, the low one will do. */
	if (high < 0)
		return fd;
	return close(fd) ? -1 : high;
}

/* A grandchild: nobody's wait(2) sees it. fork(2)'s handlers are left out: they are not ready. */
static int start_process(struct rb_error *error)
{
	int pipe_ends[2], status;
	pid_t child;

	if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK))
		return fail_setup(error);
	setup.program = out_of_the_way(pipe_ends[0]);
	wake = out_of_the_way(pipe_ends[1]);
	if (setup.program < 0 || wake < 0)
		return fail_setup(error);
	child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (child < 0)
		return fail_setup(error);
	if (!child) {
		child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
		if (child)
			_exit(child < 0);
		record_process(&setup);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return fail_setup(error);
	if (status)
		return fail_setup(error);
	/* Of these only the other process has any use. */
	return close(setup.program) || close(setup.faults) || close(setup.file) ?
	       fail_setup(error) : 0;
}

/*
 * Programs that the program starts inherit its environment. The variable names the process that is
 * recorded, once it is known, in place: nothing here may allocate. A program that it executes
 * in its own place is recorded instead of it.
 */
static bool is_somebody_else(void)
{
	char *whose = getenv("REFBENCH_TRACE_PROCESS");
	pid_t me = getpid();

	if (!whose || strspn(whose, "0123456789") != PROCESS_DIGITS)
		return false;
	if (strtol(whose, NULL, 10))
		return strtol(whose, NULL, 10) != me;
	for (int i = PROCESS_DIGITS - 1; i >= 0; i--, me /= 10)
		whose[i] = (char)('0' + me % 10);
	return false;
}

static int open_file(const char *path)
{
	struct stat st;

	/* Whoever writes the old one goes on with that. */
	if (!lstat(path, &st) && S_ISREG(st.st_mode) && unlink(path))
		return -1;
	return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

const struct rb_recorder *rb_recorder_open(const char *path, struct rb_error *error)
{
	/* Nothing is put into a ring before `recording` is set. */
	if (is_somebody_else())
		return &recorder;
	ring = mmap(NULL, sizeof(*ring), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED) {
		fail_setup(error);
		return NULL;
	}
	setup.ring = ring;
	setup.path = path;
	setup.page_size = rb_context.page_size;
	if (put_facts()) {
		fail_setup(error);
		return NULL;
	}
	setup.faults = record_faults_open(error);
	if (setup.faults < 0)
		return NULL;
	setup.file = open_file(path);
	if (setup.file < 0) {
		fail_file(path, error);
		return NULL;
	}
	setup.faults = out_of_the_way(setup.faults);
	setup.file = out_of_the_way(setup.file);
	if (setup.faults < 0 || setup.file < 0) {
		fail_setup(error);
		return NULL;
	}
	if (start_process(error))
		return NULL;
	atomic_store(&recording, true);
	return &recorder;
}
