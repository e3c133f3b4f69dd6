/* SPDX-License-Identifier: MIT */
/* Memory files filled with the pattern and sealed against every change, for memfd and memfd-full. */
#ifndef REFBENCH_SEALED_H
#define REFBENCH_SEALED_H

#include "mechanism.h"

/*
 * A new memory file of size bytes that holds the pattern, sealed; -1 with *error filled in.
 * name shows in /proc/PID/maps. huge: bytes of a huge page to build it from, 0 for base pages.
 */
int rb_sealed_file(struct rb_context *ctx, const char *name, size_t size, uint64_t huge,
		   struct rb_error *error);

/* Bytes that the file behind fd takes up; 0 when fd is -1. */
uint64_t rb_sealed_bytes(int fd);

/* Try to change a file; RB_TAMPER_UNMAP closes *fd, for the mappings hold the file alone then. */
int rb_sealed_tamper(int *fd, enum rb_tamper action);

#endif
