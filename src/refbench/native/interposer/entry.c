/* SPDX-License-Identifier: MIT */
/* The functions of malloc's family, as the program calls them. */
#include "interposer.h"
#include "jemalloc.h"

#include <errno.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* Ready, and this thread has its arena. false: the interposer itself is asking. */
static inline bool enter(void)
{
	if (RB_LIKELY(rb_joined))
		return true;
	if (rb_inside || !rb_start())
		return false;
	rb_join();
	return true;
}

static void *early(size_t align, size_t size)
{
	void *got = rb_early_alloc(align, size);

	if (!got)
		errno = ENOMEM;
	return got;
}

static void *fail(int err)
{
	errno = err;
	return NULL;
}

static bool power_of_two(size_t number)
{
	return number && !(number & (number - 1));
}

static inline void *take(size_t size)
{
	int place = rb_place(size, false);

	if (RB_LIKELY(!place))
		return rbje_malloc(size);
	return size <= PTRDIFF_MAX ? rbje_mallocx(size, place) : NULL;
}

EXPORT void *malloc(size_t size)
{
	void *got;

	if (RB_UNLIKELY(!enter()))
		return early(0, size);
	got = take(size);
	return got ? rb_hand_out(got, size, rbje_sallocx(got, 0), 0) : NULL;
}

EXPORT void free(void *addr)
{
	if (!addr || rb_early_owns(addr))
		return;
	if (RB_UNLIKELY(!rb_joined && !enter()))
		return;
	RB_RECORD(freed, addr, rbje_sallocx(addr, 0));
	rbje_free(addr);
}

EXPORT void *calloc(size_t count, size_t size)
{
	size_t total;
	void *got;
	int place;

	if (__builtin_mul_overflow(count, size, &total))
		return fail(ENOMEM);
	if (RB_UNLIKELY(!enter()))
		return early(0, total);
	place = rb_place(total, true);
	if (place)
		got = total <= PTRDIFF_MAX ? rbje_mallocx(total, place | RBJE_ZERO) : NULL;
	else
		got = rbje_malloc(total);
	if (!got)
		return fail(ENOMEM);
	/* jemalloc would zero what lies around a large block as well, and that is still fresh. */
	if (!place)
		memset(got, 0, total);
	return rb_hand_out_zeroed(got, total, rbje_sallocx(got, 0));
}

/* What the program has of a block: of small ones the size class, see handout.c. */
static size_t owned(const void *addr, size_t usable)
{
	size_t requested = usable > rb_small_most ? rb_fresh_requested((uintptr_t)addr) : 0;

	return requested ? requested : usable;
}

static void *move(void *addr, size_t size, size_t usable)
{
	size_t kept = owned(addr, usable);
	void *got = take(size);

	if (!got)
		return NULL;
	if (kept > size)
		kept = size;
	rb_hand_out(got, size, rbje_sallocx(got, 0), kept);
	memcpy(got, addr, kept);
	RB_RECORD(freed, addr, usable);
	rbje_free(addr);
	return got;
}

EXPORT void *realloc(void *addr, size_t size)
{
	size_t usable, kept, now;

	if (!addr)
		return malloc(size);
	if (rb_early_owns(addr)) {
		void *got = malloc(size);
		size_t old = rb_early_size(addr);

		return got ? memcpy(got, addr, old < size ? old : size) : NULL;
	}
	/* As glibc does it. */
	if (!size) {
		free(addr);
		return NULL;
	}
	if (RB_UNLIKELY(!enter()))
		return fail(ENOMEM);
	if (size > PTRDIFF_MAX)
		return fail(ENOMEM);
	usable = rbje_sallocx(addr, 0);
	kept = owned(addr, usable);
	now = rbje_nallocx(size, 0);
	if (now != usable && usable > rb_small_most && now > rb_small_most)
		usable = rbje_xallocx(addr, size, 0, 0);
	if (now != usable)
		return move(addr, size, usable);
	return rb_hand_on(addr, size, usable, kept);
}

EXPORT void *reallocarray(void *addr, size_t count, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(count, size, &total))
		return fail(ENOMEM);
	return realloc(addr, total);
}

/* align is a power of two. */
static void *aligned(size_t align, size_t size)
{
	void *got;

	if (RB_UNLIKELY(!enter()))
		return early(align, size);
	/* Its own limits: the class of more than that does not exist. */
	if (size > PTRDIFF_MAX || align > PTRDIFF_MAX - size)
		return fail(ENOMEM);
	size += !size;
	got = rbje_mallocx(size,
			   RBJE_ALIGN_LG(__builtin_ctzl(align)) | rb_place(size, false));
	return got ? rb_hand_out(got, size, rbje_sallocx(got, 0), 0) : fail(ENOMEM);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
	return power_of_two(align) ? aligned(align, size) : fail(EINVAL);
}

EXPORT void *memalign(size_t align, size_t size)
{
	/* As glibc: rounded up to a power of two. */
	while (!power_of_two(align) && align <= PTRDIFF_MAX)
		align = align ? align + (align & -align) : 1;
	return power_of_two(align) ? aligned(align, size) : fail(EINVAL);
}

EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
	int before = errno;
	void *got;

	if (!power_of_two(align) || align % sizeof(void *))
		return EINVAL;
	got = aligned(align, size);
	errno = before;
	if (!got)
		return ENOMEM;
	*out = got;
	return 0;
}

EXPORT void *valloc(size_t size)
{
	if (!enter())
		return early(4096, size);
	return aligned(rb_context.page_size, size);
}

EXPORT void *pvalloc(size_t size)
{
	size_t page;

	if (!enter())
		return early(4096, size);
	page = rb_context.page_size;
	if (size > PTRDIFF_MAX)
		return fail(ENOMEM);
	return aligned(page, (size + page - 1) & ~(page - 1));
}

/* A program that asks may use all of it, so that all of it is handed out. */
EXPORT size_t malloc_usable_size(void *addr)
{
	size_t usable, kept;

	if (!addr)
		return 0;
	if (rb_early_owns(addr))
		return rb_early_size(addr);
	if (!enter())
		return 0;
	usable = rbje_sallocx(addr, 0);
	kept = owned(addr, usable);
	if (kept < usable)
		rb_hand_on(addr, usable, usable, kept);
	return usable;
}
