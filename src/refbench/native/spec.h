/* SPDX-License-Identifier: MIT */
/* Mechanisms and patterns as text, for the front ends. Nothing here allocates. */
#ifndef REFBENCH_SPEC_H
#define REFBENCH_SPEC_H

#include "mechanism.h"

#define RB_SPEC_BYTES 4096	/* of a mechanism with its options, the final zero included */

/*
 * The mechanism of "NAME:key=value,..."; its options go to ctx, and their text to `room` of
 * RB_SPEC_BYTES, which stays theirs. NULL with *error filled in.
 */
const struct rb_mechanism *rb_spec_read(struct rb_context *ctx, const char *spec, char *room,
					struct rb_error *error);

/*
 * The pattern "byte:0xAA", or "file:..." whose content is the file's at `path`, into `page` of
 * ctx->page_size bytes and ctx->pattern. -1 with *error filled in.
 */
int rb_pattern_read(struct rb_context *ctx, const char *text, const char *path,
		    unsigned char *page, struct rb_error *error);

#endif
