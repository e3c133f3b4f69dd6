/* SPDX-License-Identifier: MIT */
/*
 * jemalloc's extent hooks. Addresses are chosen here, upwards and never twice, so that an extent
 * gets the alignment that it needs, neighbours can be merged, and mechanisms that map a range in
 * pieces need not reserve it first. Large callocs have arenas of zero memory, so that they cost
 * what they cost without a pattern.
 *
 * jemalloc takes memory for zero after a forced purge or a decommit; those hooks opt out.
 */
#include "interposer.h"
#include "jemalloc.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

#define GIB (1ull << 30)
#define WINDOW (32 * GIB)
#define TRIES 256

struct rb_backing_counts rb_backing_counts;

/* Where addresses come from: one for the mechanism's memory, one for zero memory. */
struct space {
	atomic_uintptr_t next;
	atomic_uintptr_t window;
};

static struct space fresh_space;
static struct space zero_space;
static size_t unit;		/* of sizes and addresses that the mechanism can map */
static bool retain;

static void add(atomic_uint_least64_t *counter, uint64_t amount)
{
	atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static void note_mapped(size_t size)
{
	uint64_t now = atomic_fetch_add(&rb_backing_counts.mapped, size) + size;
	uint64_t most = atomic_load(&rb_backing_counts.mapped_most);

	while (now > most &&
	       !atomic_compare_exchange_weak(&rb_backing_counts.mapped_most, &most, now))
		;
}

/* ---- where ---- */

static void open_window(struct space *space, uintptr_t from)
{
	atomic_store(&space->window, from);
	atomic_store(&space->next, from);
}

/* size bytes of addresses at a multiple of align, a power of two, that nobody was given. */
static uintptr_t take_addresses(struct space *space, size_t size, size_t align)
{
	uintptr_t before = atomic_load(&space->next);
	uintptr_t at;

	do {
		at = (before + align - 1) & ~(uintptr_t)(align - 1);
	} while (!atomic_compare_exchange_weak(&space->next, &before, at + size));
	return at;
}

/* Something else is there: go on at the next GiB, or in another window. */
static void move_on(struct space *space, uintptr_t at)
{
	uintptr_t first = atomic_load(&space->window);
	uintptr_t there = atomic_load(&space->next);
	uintptr_t beyond = (at | (GIB - 1)) + 1;

	if (beyond >= first + WINDOW && first > 4 * WINDOW) {
		if (atomic_compare_exchange_strong(&space->window, &first, first - 4 * WINDOW))
			atomic_store(&space->next, first - 4 * WINDOW);
		return;
	}
	while (there < beyond &&
	       !atomic_compare_exchange_weak(&space->next, &there, beyond))
		;
}

/* ---- the mechanism's memory ---- */

static void complain(const struct rb_error *error)
{
	if (!atomic_fetch_add(&rb_backing_counts.refused, 1))
		rb_say("%s supplies no more memory: %s %s", rb_mechanism->name, error->message,
		       error->remedy);
}

static void give_back(void *addr, size_t size)
{
	if (rb_mechanism->forget)
		rb_mechanism->forget(&rb_context, addr, size);
	(void)rb_munmap(&rb_context, addr, size);
}

static void *map_fresh_at(void *addr, size_t size, struct rb_error *error)
{
	bool joined = rb_step_inside();
	void *got = rb_mechanism->map(&rb_context, addr, size, 0, error);

	rb_step_out(joined);
	if (!got || !rb_fresh_announce((uintptr_t)addr, size, true))
		return got;
	give_back(got, size);
	(void)rb_fail_map(error, size, ENOMEM);
	return NULL;
}

static void *map_zero_at(void *addr, size_t size, struct rb_error *error)
{
	void *got = rb_map_anonymous(&rb_context, addr, size, 0, error);

	if (!got || !rb_fresh_announce((uintptr_t)addr, size, false))
		return got;
	(void)rb_munmap(&rb_context, got, size);
	(void)rb_fail_map(error, size, ENOMEM);
	return NULL;
}

static void *map_somewhere(bool zero, size_t size, size_t align)
{
	struct space *space = zero ? &zero_space : &fresh_space;
	struct rb_error error = { .kind = RB_OK };
	size_t whole = (size + unit - 1) & ~(unit - 1);

	for (int i = 0; i < TRIES; i++) {
		uintptr_t at = take_addresses(space, whole, align < unit ? unit : align);
		void *got = (zero ? map_zero_at : map_fresh_at)((void *)at, whole, &error);

		if (got)
			return got;
		if (error.err != EEXIST)
			break;
		move_on(space, at);
	}
	complain(&error);
	return NULL;
}

/* Only where addresses were given out before: others may be on their way to another thread. */
static void *map_exactly(bool zero, void *addr, size_t size)
{
	struct space *space = zero ? &zero_space : &fresh_space;
	struct rb_error error;

	if (((uintptr_t)addr | size) & (unit - 1) || !rb_fresh_knows((uintptr_t)addr) ||
	    (uintptr_t)addr + size > atomic_load(&space->next))
		return NULL;
	return (zero ? map_zero_at : map_fresh_at)(addr, size, &error);
}

/* For jemalloc's records, at an address of the kernel's choice. */
static void *map_own(size_t size, size_t align)
{
	unsigned char *got = mmap(NULL, size + align, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t head;

	if (got == MAP_FAILED)
		return NULL;
	head = (size_t)(-(uintptr_t)got & (align - 1));
	if ((head && munmap(got, head)) || munmap(got + head + size, align - head))
		return NULL;
	add(&rb_backing_counts.own, size);
	return got + head;
}

/* ---- the hooks ---- */

static struct rbje_hooks fresh_hooks;
static struct rbje_hooks zero_hooks;

static void *hook_alloc(struct rbje_hooks *hooks, void *new_addr, size_t size, size_t alignment,
			bool *zero, bool *commit, unsigned int arena)
{
	bool wants_zero = hooks == &zero_hooks;
	void *got;

	(void)arena;
	*commit = true;
	if (*zero && !wants_zero)
		return new_addr ? NULL : map_own(size, alignment);
	got = new_addr ? map_exactly(wants_zero, new_addr, size)
		       : map_somewhere(wants_zero, size, alignment);
	if (!got)
		return NULL;
	*zero = wants_zero || !rb_mechanism->applies_pattern;
	if (wants_zero) {
		add(&rb_backing_counts.zero, size);
		RB_RECORD(mapped, got, size, true);
		return got;
	}
	rb_count(&rb_backing_counts.maps);
	note_mapped(size);
	RB_RECORD(mapped, got, size, false);
	return got;
}

static bool hook_dalloc(struct rbje_hooks *hooks, void *addr, size_t size, bool committed,
			unsigned int arena)
{
	bool supplied = rb_backing_supplied((uintptr_t)addr);
	bool ours = supplied && hooks == &fresh_hooks;

	(void)committed;
	(void)arena;
	if (retain || ((uintptr_t)addr | size) & (unit - 1))
		return true;
	if (supplied || hooks == &zero_hooks)
		RB_RECORD(unmapped, addr, size);
	if (ours) {
		if (rb_mechanism->forget)
			rb_mechanism->forget(&rb_context, addr, size);
		rb_fresh_again((uintptr_t)addr, size);
	}
	if (rb_munmap(&rb_context, addr, size))
		return true;
	atomic_fetch_sub(ours	    ? &rb_backing_counts.mapped
			 : supplied ? &rb_backing_counts.zero
				    : &rb_backing_counts.own,
			 size);
	return false;
}

/* Of an arena that is destroyed: it takes no answer. */
static void hook_destroy(struct rbje_hooks *hooks, void *addr, size_t size, bool committed,
			 unsigned int arena)
{
	(void)hook_dalloc(hooks, addr, size, committed, arena);
}

static bool drop_pages(void *addr, size_t length)
{
	if (rb_madvise(&rb_context, addr, length, MADV_DONTNEED))
		return false;
	add(&rb_backing_counts.purged, length);
	return true;
}

/*
 * The pages go back to the kernel. Where the mechanism does not bring its pattern back, all of
 * them are reused memory from then on, also those that were still fresh, and are filled when they
 * are handed out: only what is handed out takes memory again.
 */
static bool hook_purge(struct rbje_hooks *hooks, void *addr, size_t size, size_t offset,
		       size_t length, unsigned int arena)
{
	unsigned char *from = (unsigned char *)addr + offset;

	(void)hooks;
	(void)size;
	(void)arena;
	if (!drop_pages(from, length))
		return true;
	if (!rb_backing_supplied((uintptr_t)from))
		return false;
	if (rb_mechanism->purge_restores || !rb_mechanism->applies_pattern)
		rb_fresh_again((uintptr_t)from, length);
	else
		rb_fresh_use((uintptr_t)from, (uintptr_t)from + length);
	RB_RECORD(purged, from, length);
	return false;
}

static bool hook_purge_to_zero(struct rbje_hooks *hooks, void *addr, size_t size, size_t offset,
			       size_t length, unsigned int arena)
{
	(void)hooks;
	(void)size;
	(void)arena;
	if (!drop_pages((unsigned char *)addr + offset, length))
		return true;
	RB_RECORD(purged, (unsigned char *)addr + offset, length);
	return false;
}

static bool hook_split(struct rbje_hooks *hooks, void *addr, size_t size, size_t size_a,
		       size_t size_b, bool committed, unsigned int arena)
{
	(void)hooks;
	(void)addr;
	(void)size;
	(void)size_a;
	(void)size_b;
	(void)committed;
	(void)arena;
	return false;
}

static bool hook_merge(struct rbje_hooks *hooks, void *addr_a, size_t size_a, void *addr_b,
		       size_t size_b, bool committed, unsigned int arena)
{
	(void)hooks;
	(void)size_a;
	(void)size_b;
	(void)committed;
	(void)arena;
	return rb_backing_supplied((uintptr_t)addr_a) != rb_backing_supplied((uintptr_t)addr_b);
}

static struct rbje_hooks fresh_hooks = {
	.alloc = hook_alloc,
	.dalloc = hook_dalloc,
	.destroy = hook_destroy,
	.purge_lazy = hook_purge,
	.split = hook_split,
	.merge = hook_merge,
};

static struct rbje_hooks zero_hooks = {
	.alloc = hook_alloc,
	.dalloc = hook_dalloc,
	.destroy = hook_destroy,
	.purge_forced = hook_purge_to_zero,
	.split = hook_split,
	.merge = hook_merge,
};

/* ---- for the others ---- */

bool rb_backing_supplied(uintptr_t addr)
{
	return rb_fresh_knows(addr);
}

void rb_backing_forget_fresh(void)
{
	rb_fresh_end();
	/* New memory shall not lie where nothing is fresh. */
	move_on(&fresh_space, atomic_load(&fresh_space.next));
}

int rb_backing_start(struct rb_error *error)
{
	size_t length = sizeof(retain);
	uint64_t huge = 0;
	uintptr_t below;
	void *probe = mmap(NULL, rb_context.page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);

	if (probe == MAP_FAILED || munmap(probe, rb_context.page_size))
		return rb_fail_map(error, rb_context.page_size, errno);
	if (rb_option_text(&rb_context, "huge") &&
	    rb_option_number(&rb_context, "huge", 0, &huge, error))
		return -1;
	unit = huge ? huge : rb_context.page_size;
	/* What the kernel places goes down from there, and comes here last. */
	below = (uintptr_t)probe & ~(GIB - 1);
	open_window(&fresh_space, below - 2 * WINDOW);
	open_window(&zero_space, below - 4 * WINDOW);
	if (!rbje_mallctl("opt.retain", &retain, &length, NULL, 0))
		return 0;
	return rb_fail(error, RB_UNSUPPORTED, 0, "It needs jemalloc 5.3.",
		       "jemalloc does not tell whether it retains memory.");
}

static int set_of_arena(const char *name, unsigned int index, void *value, size_t size)
{
	size_t mib[3];
	size_t length = 3;
	int err = rbje_mallctlnametomib(name, mib, &length);

	mib[1] = index;
	return err ? err : rbje_mallctlbymib(mib, length, NULL, NULL, value, size);
}

static int fail_arena(struct rb_error *error, int err, unsigned int index)
{
	return rb_fail(error, RB_UNSUPPORTED, err, "It needs jemalloc 5.3.",
		       "Arena %u of jemalloc cannot be set up: %s.", index, strerror(err));
}

int rb_backing_take(unsigned int index, struct rb_error *error)
{
	struct rbje_hooks *hooks = &fresh_hooks;
	int err = set_of_arena("arena.0.extent_hooks", index, &hooks, sizeof(hooks));

	return err ? fail_arena(error, err, index) : 0;
}

int rb_backing_make(bool zero, bool eager, unsigned int *index, struct rb_error *error)
{
	struct rbje_hooks *hooks = zero ? &zero_hooks : &fresh_hooks;
	size_t length = sizeof(*index);
	ssize_t at_once = 0;
	int err = rbje_mallctl("arenas.create", index, &length, &hooks, sizeof(hooks));

	if (!err && eager)
		err = set_of_arena("arena.0.dirty_decay_ms", *index, &at_once, sizeof(at_once));
	return err ? fail_arena(error, err, *index) : 0;
}
