/* SPDX-License-Identifier: MIT */
/* Clean anonymous memory, never filled: what memory costs without a pattern. */
#include "mechanism.h"

static int anon_setup(struct rb_context *ctx, struct rb_error *error)
{
	(void)ctx;
	(void)error;
	return 0;
}

static const struct rb_mechanism anon_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "anon",
	.applies_pattern = false,
	.setup = anon_setup,
	.map = rb_map_anonymous,
};
RB_REGISTER(anon_mechanism);
