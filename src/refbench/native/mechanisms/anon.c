/* SPDX-License-Identifier: MIT */
/* Clean anonymous memory, never filled: what memory costs without a pattern. */
#include "mechanism.h"

#include <sys/mman.h>

static int anon_setup(struct rb_context *ctx, struct rb_error *error)
{
	(void)ctx;
	(void)error;
	return 0;
}

static void *anon_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
		      struct rb_error *error)
{
	int populate = flags & RB_MAP_POPULATE ? MAP_POPULATE : 0;

	return rb_map_new(ctx, addr, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | populate, -1, 0, error);
}

static const struct rb_mechanism anon_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "anon",
	.applies_pattern = false,
	.setup = anon_setup,
	.map = anon_map,
};
RB_REGISTER(anon_mechanism);
