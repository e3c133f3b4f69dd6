/* SPDX-License-Identifier: MIT */
/* userfaultfd(2) for uffd and uffd-sigbus. */
#ifndef REFBENCH_USERFAULT_H
#define REFBENCH_USERFAULT_H

#include "mechanism.h"
#include "ranges.h"

#include <linux/userfaultfd.h>

/*
 * Open a userfaultfd with features: the whole one where that is allowed, else one for faults of
 * user code only, which sets ctx->unprivileged. The descriptor, or -1 with *error filled in.
 */
int rb_userfault_open(struct rb_context *ctx, uint64_t features, struct rb_error *error);

/* Missing pages of the range are reported to fd from now on. */
int rb_userfault_register(struct rb_context *ctx, int fd, void *addr, size_t size,
			  struct rb_error *error);

/* The same for every range of a table, in a forked child. */
int rb_userfault_register_all(struct rb_context *ctx, int fd, const struct rb_ranges *ranges,
			      struct rb_error *error);

/*
 * Put the pattern into the missing page at addr and wake who waits for it. 0, or an errno: after
 * EAGAIN and ENOMEM the fault comes again, after ESRCH there is nobody left to have it.
 */
int rb_userfault_copy(struct rb_context *ctx, int fd, uintptr_t addr);

/*
 * New anonymous memory registered with fd. With RB_MAP_POPULATE it is filled before, so that
 * only what is dropped later is missing.
 */
void *rb_userfault_map(struct rb_context *ctx, int fd, void *addr, size_t size, unsigned int flags,
		       struct rb_error *error);

/* close(2), counted; nothing when *fd is -1, which it is afterwards. */
void rb_userfault_close(struct rb_context *ctx, int *fd);

/* The facts of both mechanisms. */
void rb_userfault_facts(struct rb_context *ctx, char *buf, size_t size);

#endif
