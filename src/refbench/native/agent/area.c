/* SPDX-License-Identifier: MIT */
/*
 * Memory of the agent's own, and how it is faulted in.
 *
 * fork(2) makes every private page copy-on-write, and leaves file-backed and shared pages out of
 * the child's page tables. So parent and child walk their memory once before the clock runs.
 */
#include "agent.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__GLIBC__) && defined(__has_include)
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif
#endif

#define MAX_OWN 64
#define STACK_BYTES (48u << 10)

/* How a mapping is faulted in: loads, stores, not at all, or stores to what is there already. */
enum how { LOAD, STORE, LEAVE, STORE_PRESENT };

struct own {
	uintptr_t start, end;
	enum how how;
};

static struct own own[MAX_OWN];
static int own_count;
static int lasting_count;	/* of those, what is not made anew for every sample */

/* Whole pages, there already. `for_children`: written by forked children too. NULL: none left. */
void *area_new(size_t size, bool for_children)
{
	int kind = for_children ? MAP_SHARED : MAP_PRIVATE;
	void *got = mmap(NULL, size, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS | MAP_POPULATE,
			 -1, 0);

	return got == MAP_FAILED ? NULL : got;
}

int area_shared(void)
{
	shared = area_new(sizeof(*shared), true);
	return shared ? 0 : -1;
}

/* A load and a store of what was there, which no compiler may drop and no thread can notice. */
static void touch_page(unsigned char *at, bool write)
{
	unsigned char was = *(volatile unsigned char *)at;

	if (write)
		(void)__atomic_compare_exchange_n(at, &was, was, false, __ATOMIC_RELAXED,
						  __ATOMIC_RELAXED);
}

static void touch_range(uintptr_t start, uintptr_t end, bool write)
{
	for (; start < end; start += context.page_size)
		touch_page((unsigned char *)start, write);
}

/* Stores to the pages of private memory that are there already. */
static void touch_present(uintptr_t start, uintptr_t end)
{
	unsigned char present[64];

	while (start < end) {
		size_t pages = (end - start) / context.page_size;

		if (pages > sizeof(present))
			pages = sizeof(present);
		if (mincore((void *)start, pages * context.page_size, present))
			return;
		for (size_t i = 0; i < pages; i++)
			if (present[i] & 1)
				touch_page((unsigned char *)start + i * context.page_size, true);
		start += pages * context.page_size;
	}
}

/*
 * The kernel writes to a registered rseq area whenever the thread was preempted: a copy-on-write
 * fault at no fixed moment after fork(2). The agent has no use for it.
 */
static void leave_rseq(void)
{
#if defined(RSEQ_SIG) && defined(SYS_rseq)
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	/* Without a registration it is refused, and nothing is to be done. */
	if (__rseq_size)
		(void)syscall(SYS_rseq, area, sizeof(struct rseq), RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
#endif
}

/* One line of /proc/self/maps. Of the kernel's own mappings and of what cannot fault: nothing. */
static void note_lasting(const char *line)
{
	unsigned long start, end, inode;
	char access[5];
	int name = 0;

	if (own_count == MAX_OWN ||
	    sscanf(line, "%lx-%lx %4s %*s %*s %lu %n", &start, &end, access, &inode, &name) != 4)
		return;
	if (access[0] != 'r' || !strncmp(line + name, "[v", 2))
		return;
	if (access[1] != 'w' && !inode)
		return;
	if (!strncmp(line + name, "[stack", 6))
		return;
	own[own_count++] = (struct own){ start, end, access[1] == 'w' ? STORE : LOAD };
}

/* What of a range of private memory is not noted yet. */
static void note_rest(uintptr_t start, uintptr_t end, enum how how)
{
	for (int i = 0; i < own_count; i++) {
		struct own known = own[i];

		if (known.start >= end || known.end <= start)
			continue;
		if (known.start > start)
			note_rest(start, known.start, how);
		if (known.end < end)
			note_rest(known.end, end, how);
		return;
	}
	if (own_count < MAX_OWN)
		own[own_count++] = (struct own){ start, end, how };
}

static void note_line(const char *line, enum how how)
{
	unsigned long start, end;
	char access[5];

	if (how == LOAD)
		note_lasting(line);
	else if (sscanf(line, "%lx-%lx %4s", &start, &end, access) == 3 &&
		 !strncmp(access, "rw-p", 4))
		note_rest(start, end, how);
}

static int note_lines(enum how how)
{
	size_t used = 0;
	ssize_t got;
	char *line, *next;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while ((got = read(fd, shared->text + used, TEXT_SIZE - 1 - used)) > 0)
		used += (size_t)got;
	if (close(fd) || got < 0)
		return -1;
	shared->text[used] = '\0';
	for (line = shared->text; *line; line = next) {
		next = strchr(line, '\n');
		if (!next)
			break;
		*next++ = '\0';
		note_line(line, how);
	}
	return 0;
}

/* Remember which mappings are the agent's own; called before a program maps anything. */
int area_note(void)
{
	leave_rseq();
	own_count = 0;
	if (note_lines(LOAD))
		return -1;
	lasting_count = own_count;
	return 0;
}

/*
 * What a mechanism maps in setup() for itself is faulted in after fork(2) too, but only what it
 * uses: its tables are larger. Called before setup(), which notes what is not its own, and after.
 */
int area_note_setup(bool done)
{
	if (!done)
		own_count = lasting_count;
	return note_lines(done ? STORE_PRESENT : LEAVE);
}

/* What of the stack the agent may still grow into. */
static __attribute__((noinline)) void prefault_stack(void)
{
	volatile unsigned char room[STACK_BYTES];

	for (size_t i = 0; i < sizeof(room); i += 1024)
		room[i] = 0;
}

/* The stacks of a thread, before it waits for the others. */
void area_prefault_slot(void *slot, size_t size)
{
	touch_range((uintptr_t)slot, (uintptr_t)slot + size, true);
}

void area_prefault(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	prefault_stack();
	/* The frames of our callers, up to the environment at the top. */
	touch_range(here & ~(uintptr_t)(context.page_size - 1), (uintptr_t)environ, true);
	for (int i = 0; i < own_count; i++) {
		if (own[i].how == STORE_PRESENT)
			touch_present(own[i].start, own[i].end);
		else if (own[i].how != LEAVE)
			touch_range(own[i].start, own[i].end, own[i].how == STORE);
	}
	(void)now_ns();
}
