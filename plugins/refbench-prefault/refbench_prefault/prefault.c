/* SPDX-License-Identifier: MIT */
/*
 * memset without its faults: MADV_POPULATE_WRITE (Linux 5.14) makes a piece of the mapping present
 * in one system call, then the piece is filled while the kernel's zeroes are still in the cache.
 */
#include "mechanism.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23	/* include/uapi/asm-generic/mman-common.h */
#endif

enum { PIECE };	/* ctx->private_words */

static int prefault_setup(struct rb_context *ctx, struct rb_error *error)
{
	uint64_t piece;

	if (rb_option_number(ctx, "piece", 0, &piece, error))
		return -1;
	if (piece % ctx->page_size)
		return rb_fail(error, RB_USAGE, 0, "Give whole pages, or 0 for all at once.",
			       "A piece of %llu bytes is not a whole number of pages.",
			       (unsigned long long)piece);
	ctx->private_words[PIECE] = piece;
	return 0;
}

static void *prefault_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
			  struct rb_error *error)
{
	unsigned char *at = rb_map_new(ctx, addr, size, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, error);
	size_t piece = ctx->private_words[PIECE] ? ctx->private_words[PIECE] : size;

	(void)flags;	/* every page is populated in any case */
	for (size_t done = 0; at && done < size; done += piece) {
		size_t part = size - done < piece ? size - done : piece;

		if (rb_madvise(ctx, at + done, part, MADV_POPULATE_WRITE)) {
			int err = errno;

			if (rb_munmap(ctx, at, size) || err != EINVAL)
				rb_fail_map(error, size, err);
			else
				rb_fail(error, RB_UNSUPPORTED, err, "Use Linux 5.14 or newer.",
					"This kernel has no MADV_POPULATE_WRITE.");
			return NULL;
		}
		rb_fill(ctx, at + done, part);
	}
	return at;
}

static const struct rb_mechanism prefault_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "prefault",
	.applies_pattern = true,
	.setup = prefault_setup,
	.map = prefault_map,
};
RB_REGISTER(prefault_mechanism);
