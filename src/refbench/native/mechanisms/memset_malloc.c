/* SPDX-License-Identifier: MIT */
/*
 * Anonymous memory that is filled when it is handed out, as shipping allocators do it. Who hands
 * out does that: the malloc interposer, and the step of programs that replays it.
 */
#include "mechanism.h"

static int memset_malloc_setup(struct rb_context *ctx, struct rb_error *error)
{
	(void)ctx;
	(void)error;
	return 0;
}

static const struct rb_mechanism memset_malloc_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "memset-malloc",
	.applies_pattern = true,
	.fills_at_malloc = true,
	.setup = memset_malloc_setup,
	.map = rb_map_anonymous,
};
RB_REGISTER(memset_malloc_mechanism);
