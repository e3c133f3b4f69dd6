/* SPDX-License-Identifier: MIT */
/*
 * System calls as a 32-bit program makes them. A 32-bit agent is one. On x86-64 any program can:
 * `int $0x80` takes the table, the truncated registers and the in_compat_syscall() of 32-bit
 * callers. A kernel without IA32 emulation raises SIGSEGV instead.
 */
#ifndef REFBENCH_COMPAT_H
#define REFBENCH_COMPAT_H

#include "mechanism.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define RB_COMPAT_GETPID 20	/* of arch/x86/entry/syscalls/syscall_32.tbl */
#define RB_COMPAT_MMAP2 192

/* The result, or -errno. */
static inline int64_t rb_compat_call(uint32_t number, const uint32_t a[6])
{
#if defined(__i386__)
	long result;

	errno = 0;
	result = syscall((long)number, a[0], a[1], a[2], a[3], a[4], a[5]);
	return result == -1 && errno ? -errno : (int64_t)(uint32_t)result;
#elif defined(__x86_64__)
	uint64_t sixth = a[5];
	long result;

	/* The sixth argument goes into the frame pointer; 128 bytes below the stack are taken. */
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
			 "push %%rbp\n\t"
			 "mov %[sixth], %%rbp\n\t"
			 "int $0x80\n\t"
			 "pop %%rbp\n\t"
			 "lea 128(%%rsp), %%rsp"
			 : "=a"(result)
			 : "a"((uint64_t)number), "b"((uint64_t)a[0]), "c"((uint64_t)a[1]),
			   "d"((uint64_t)a[2]), "S"((uint64_t)a[3]), "D"((uint64_t)a[4]),
			   [sixth] "r"(sixth)
			 : "memory", "cc", "r8", "r9", "r10", "r11");
	return (int32_t)result < 0 && (int32_t)result >= -4095 ? (int32_t)result
							      : (int64_t)(uint32_t)result;
#else
	(void)number;
	(void)a;
	return -ENOSYS;
#endif
}

/*
 * A private, readable and writable mapping by mmap2(2) of 32-bit callers, moved to addr unless
 * that is NULL: their addresses end at 4 GiB. MAP_FAILED with errno set.
 */
static inline void *rb_compat_map(struct rb_context *ctx, void *addr, size_t size, int flags,
				  int fd, uint32_t pgoff)
{
	const uint32_t args[6] = { 0, (uint32_t)size, PROT_READ | PROT_WRITE,
				   (uint32_t)(MAP_PRIVATE | flags), (uint32_t)fd, pgoff };
	int64_t got;

	if ((uint64_t)size >> 32) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	rb_count(&ctx->counters->syscalls);
	got = rb_compat_call(RB_COMPAT_MMAP2, args);
	if (got < 0) {
		errno = (int)-got;
		return MAP_FAILED;
	}
	if (!addr)
		return (void *)(uintptr_t)got;
	rb_count(&ctx->counters->syscalls);
	return mremap((void *)(uintptr_t)got, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, addr);
}

#endif
