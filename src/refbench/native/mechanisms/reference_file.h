/* SPDX-License-Identifier: MIT */
/* A reference page behind a descriptor: what refpage and refpage-dev have in common. */
#ifndef REFBENCH_REFERENCE_FILE_H
#define REFBENCH_REFERENCE_FILE_H

#include "mechanism.h"

/* ctx->private_words; a mechanism's own begin with the last. */
enum { RB_REFERENCE_FD_PLUS_ONE, RB_REFERENCE_BY_COMPAT, RB_REFERENCE_OWN };

struct rb_reference_file {
	/* A descriptor of a page with that content, or -1 with errno set. */
	int (*make)(struct rb_context *ctx, const void *content, bool by_compat);
	/* Says why it was none; returns -1. */
	int (*fail)(const struct rb_context *ctx, int err, struct rb_error *error);
};

int rb_reference_open(struct rb_context *ctx, const struct rb_reference_file *file,
		      struct rb_error *error);
void *rb_reference_map(struct rb_context *ctx, const struct rb_reference_file *file, void *addr,
		       size_t size, unsigned int flags, struct rb_error *error);
int rb_reference_refer(struct rb_context *ctx, const struct rb_reference_file *file,
		       const void *content, unsigned int flags);
uint64_t rb_reference_held(struct rb_context *ctx);
int rb_reference_tamper(struct rb_context *ctx, enum rb_tamper action);
void rb_reference_teardown(struct rb_context *ctx);

#endif
