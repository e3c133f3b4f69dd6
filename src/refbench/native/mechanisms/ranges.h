/* SPDX-License-Identifier: MIT */
/*
 * Which addresses are a mechanism's: a sorted table that a fault handler may search while other
 * threads map and unmap. Its address range is taken in setup(); so many entries are present from
 * then on, behind them the table costs one page fault for every page that it grows into.
 */
#ifndef REFBENCH_RANGES_H
#define REFBENCH_RANGES_H

#include "mechanism.h"

#define RB_PRESENT_RANGES 1024
#define RB_MOST_RANGES 65536 /* about vm.max_map_count, as it usually is */

struct rb_ranges;

struct rb_ranges *rb_ranges_open(struct rb_context *ctx, struct rb_error *error);
void rb_ranges_close(struct rb_context *ctx, struct rb_ranges *ranges);

/* Limit hit beyond RB_MOST_RANGES. */
int rb_ranges_add(struct rb_ranges *ranges, const void *addr, size_t size, struct rb_error *error);

/* Take a part out of every range that it meets; what stays on both sides stays. */
void rb_ranges_remove(struct rb_ranges *ranges, const void *addr, size_t size);

/* Safe in signal handlers and beside add and remove in other threads. */
bool rb_ranges_contain(const struct rb_ranges *ranges, uintptr_t addr);

/* In a forked child: another thread of the parent may have been in the middle of a change. */
void rb_ranges_after_fork(struct rb_ranges *ranges);

/* The range of an index; false behind the last. Not beside add and remove. */
bool rb_ranges_at(const struct rb_ranges *ranges, size_t index, void **addr, size_t *size);

#endif
