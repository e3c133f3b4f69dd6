/* SPDX-License-Identifier: MIT */
/*
 * mmap(2) with MAP_REFPAGE: clean pages of the mapping show a page of the process's own, whose
 * address takes the place of the file offset.
 */
#include "compat.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MAP_REFPAGE
#define MAP_REFPAGE 0x200000 /* of the patched kernel's asm-generic/mman-common.h */
#endif

/* ctx->private_words */
enum {
	PAGE,		/* of our own, 0 if there is none */
	ADDRESS,	/* of the reference page: that one, or what refer() was given */
	REFER_FLAGS,
};

static unsigned char *page_of(const struct rb_context *ctx)
{
	return (unsigned char *)(uintptr_t)ctx->private_words[PAGE];
}

static int make_page(struct rb_context *ctx, struct rb_error *error)
{
	unsigned char *page = rb_map_new(ctx, NULL, ctx->page_size, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, error);

	if (!page)
		return -1;
	memcpy(page, ctx->pattern.page, ctx->page_size);
	ctx->private_words[PAGE] = (uintptr_t)page;
	ctx->private_words[ADDRESS] = (uintptr_t)page;
	return 0;
}

static int drop_page(struct rb_context *ctx)
{
	unsigned char *page = page_of(ctx);

	ctx->private_words[PAGE] = 0;
	ctx->private_words[ADDRESS] = 0;
	return page ? rb_munmap(ctx, page, ctx->page_size) : 0;
}

/* A 32-bit program's address that was taken for a signed number becomes a page far too high. */
static void *map_by_compat(struct rb_context *ctx, void *addr, size_t size, int flags)
{
	uint32_t address = (uint32_t)ctx->private_words[ADDRESS];
	int64_t offset = ctx->private_words[REFER_FLAGS] & RB_REFER_SIGNED
				 ? (int64_t)(int32_t)address
				 : (int64_t)address;

	return rb_compat_map(ctx, addr, size, MAP_REFPAGE | flags, -1,
			     (uint32_t)((uint64_t)offset >> 12));
}

/*
 * A kernel that does not know the flag takes no notice of it. It looks for the file then, which
 * -1 is not, and fails with EBADF.
 */
static void *map_at(struct rb_context *ctx, void *addr, size_t size, int flags,
		    struct rb_error *error)
{
	void *got;

	if (ctx->private_words[REFER_FLAGS] & RB_REFER_COMPAT) {
		got = map_by_compat(ctx, addr, size, flags);
		if (got != MAP_FAILED)
			return got;
		rb_fail_map(error, size, errno);
		return NULL;
	}
	got = rb_map_new(ctx, addr, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_REFPAGE | flags, -1,
			 (int64_t)ctx->private_words[ADDRESS], error);
	if (!got && error->err == EBADF)
		rb_fail(error, RB_UNSUPPORTED, EBADF,
			"Build a kernel that has it with `refbench kernel build`, and measure "
			"with -b qemu.",
			"This kernel does not know MAP_REFPAGE.");
	return got;
}

static int try_map(struct rb_context *ctx, struct rb_error *error)
{
	void *tried = map_at(ctx, NULL, ctx->page_size, 0, error);

	if (!tried)
		return -1;
	if (rb_munmap(ctx, tried, ctx->page_size))
		return rb_fail_map(error, ctx->page_size, errno);
	return 0;
}

static int refpage_mmap_setup(struct rb_context *ctx, struct rb_error *error)
{
	if (make_page(ctx, error))
		return -1;
	/* Whether there are such mappings is known before the first map. */
	if (!try_map(ctx, error))
		return 0;
	(void)drop_page(ctx);
	return -1;
}

static void *refpage_mmap_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
			      struct rb_error *error)
{
	if (!ctx->private_words[ADDRESS] && make_page(ctx, error))
		return NULL;
	return map_at(ctx, addr, size, flags & RB_MAP_POPULATE ? MAP_POPULATE : 0, error);
}

static int refpage_mmap_tamper(struct rb_context *ctx, enum rb_tamper action)
{
	unsigned char *page = page_of(ctx);

	switch (action) {
	case RB_TAMPER_WRITE:
		if (!page)
			break;
		for (size_t i = 0; i < ctx->page_size; i++)
			page[i] = (unsigned char)~page[i];
		return 0;
	case RB_TAMPER_TRUNCATE:
		errno = EOPNOTSUPP;
		return -1;
	case RB_TAMPER_UNMAP:
		if (!page)
			break;
		return drop_page(ctx);
	}
	errno = EINVAL;
	return -1;
}

/* The kernel looks at the page when it is asked to map it. */
static int refpage_mmap_refer(struct rb_context *ctx, const void *content, unsigned int flags)
{
	struct rb_error error;

	ctx->private_words[ADDRESS] = (uintptr_t)content;
	ctx->private_words[REFER_FLAGS] = flags;
	if (!try_map(ctx, &error))
		return 0;
	errno = error.err;
	return -1;
}

static void refpage_mmap_teardown(struct rb_context *ctx)
{
	(void)drop_page(ctx);
}

static const struct rb_mechanism refpage_mmap_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "refpage-mmap",
	.applies_pattern = true,
	.purge_restores = true,
	.setup = refpage_mmap_setup,
	.map = refpage_mmap_map,
	.tamper = refpage_mmap_tamper,
	.refer = refpage_mmap_refer,
	.teardown = refpage_mmap_teardown,
};
RB_REGISTER(refpage_mmap_mechanism);
