/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The interface of /dev/refpage, for the module and for its users.
 *
 * Every open file has one page of content of its own, zeroes at first.
 * write(2) and pwrite(2) fill it (within one page), REFPAGE_DEV_SET_HANDLER
 * chooses how its mappings fault. The first mmap(2) seals both: later attempts
 * fail with EPERM. Mappings are private (MAP_SHARED fails with EINVAL), of any
 * length and at any offset: each of their pages starts as that one page.
 */
#ifndef REFPAGE_DEV_H
#define REFPAGE_DEV_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define REFPAGE_DEV_PATH "/dev/refpage"

/* One reference and one mapcount for each PTE: these counts can overflow. */
#define REFPAGE_DEV_NAIVE 0
/* Special PTEs, which are not counted. The default. */
#define REFPAGE_DEV_SAFE 1

/* Takes a pointer to one of the above; EINVAL for any other value. */
#define REFPAGE_DEV_SET_HANDLER _IOW('R', 0x70, __u32)

#endif
