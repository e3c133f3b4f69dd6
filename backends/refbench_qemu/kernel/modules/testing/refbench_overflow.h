/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The interface of /dev/refbench_overflow: the counts of the page that a PTE of
 * the calling process maps, so that an overflow needs no 2^31 mappings.
 *
 * An open file has one page in view, which REFBENCH_COUNTS_FIND chooses by an
 * address. No reference is taken: whoever owns the page must keep it.
 */
#ifndef REFBENCH_OVERFLOW_H
#define REFBENCH_OVERFLOW_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define REFBENCH_OVERFLOW_PATH "/dev/refbench_overflow"

/* As struct page has them; no mapping is a mapcount of -1. */
struct refbench_counts {
	__s32 refcount;
	__s32 mapcount;
};

/* Takes the address itself; EFAULT where no present PTE maps it. */
#define REFBENCH_COUNTS_FIND _IO('R', 0x78)
#define REFBENCH_COUNTS_READ _IOR('R', 0x79, struct refbench_counts)
/* Adds to both counts, wrapping; a caller undoes it with the opposite. */
#define REFBENCH_COUNTS_ADD _IOW('R', 0x7a, struct refbench_counts)

#endif
