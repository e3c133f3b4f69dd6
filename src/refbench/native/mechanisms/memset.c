/* SPDX-License-Identifier: MIT */
/* Anonymous memory that is filled when it is mapped. */
#include "mechanism.h"

static int memset_setup(struct rb_context *ctx, struct rb_error *error)
{
	(void)ctx;
	(void)error;
	return 0;
}

/* With populate the kernel makes all pages present in the one call, and the fill never faults. */
static void *memset_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
			struct rb_error *error)
{
	void *got = rb_map_anonymous(ctx, addr, size, flags, error);

	if (got)
		rb_fill(ctx, got, size);
	return got;
}

static const struct rb_mechanism memset_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "memset",
	.applies_pattern = true,
	.setup = memset_setup,
	.map = memset_map,
};
RB_REGISTER(memset_mechanism);
