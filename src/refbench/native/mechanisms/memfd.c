/* SPDX-License-Identifier: MIT */
/*
 * A small sealed memfd mapped MAP_PRIVATE again and again over a range (Catalin Marinas's idea on
 * linux-mm in 2020). One mmap call and one VMA for every block: vm.max_map_count is the wall.
 * At an address of the caller's the blocks go into the gap that is there. reserve=yes, and a range
 * that the kernel chooses, first keep the whole range away from other threads by a PROT_NONE
 * mapping; that each block then splits it costs more than half as much again.
 */
#include "sealed.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* ctx->private_words */
enum { FD, BLOCK_BYTES, HUGE_BYTES, VMAS_BEFORE, MOST_VMAS, RESERVE };

#define HUGE_DIR "/sys/kernel/mm/hugepages/hugepages-%llukB/"
#define MOST_BLOCK_BYTES (1ull << 40)

/* A number of the pool of huge pages; -1 if the kernel has none of that size. */
static int64_t huge_pages(uint64_t huge, const char *which)
{
	char path[96];

	if (snprintf(path, sizeof(path), HUGE_DIR "%s", (unsigned long long)(huge / 1024),
		     which) < 0)
		return -1;
	return rb_read_number(path);
}

static int fail_huge(struct rb_error *error, uint64_t huge, uint64_t wanted)
{
	unsigned long long kib = huge / 1024;
	int64_t there = huge_pages(huge, "free_hugepages");
	int64_t used = huge_pages(huge, "nr_hugepages") - there;
	char remedy[160];

	if (snprintf(remedy, sizeof(remedy), "As root: echo %llu > " HUGE_DIR "nr_hugepages.",
		     (unsigned long long)wanted + (unsigned long long)used, kib) < 0)
		remedy[0] = '\0';
	if (there < 0)
		return rb_fail(error, RB_UNSUPPORTED, 0, "Use huge=0.",
			       "This kernel has no huge pages of %llu KiB.", kib);
	if (!there)
		return rb_fail(error, RB_UNSUPPORTED, 0, remedy,
			       "No huge page of %llu KiB is free.", kib);
	return rb_fail_limit(error, wanted, (uint64_t)there, remedy,
			     "%llu huge pages of %llu KiB are needed, %lld are free.",
			     (unsigned long long)wanted, kib, (long long)there);
}

static int open_block(struct rb_context *ctx, struct rb_error *error)
{
	int fd = rb_sealed_file(ctx, "refbench-block", ctx->private_words[BLOCK_BYTES],
				ctx->private_words[HUGE_BYTES], error);

	ctx->private_words[FD] = (uint64_t)(int64_t)fd;
	return fd < 0 ? -1 : 0;
}

static int memfd_setup(struct rb_context *ctx, struct rb_error *error)
{
	uint64_t block, huge, unit;
	int64_t vmas, most;
	bool first;

	ctx->private_words[FD] = (uint64_t)-1;
	if (rb_option_number(ctx, "block", 1, &block, error) ||
	    rb_option_number(ctx, "huge", 0, &huge, error) ||
	    rb_option_switch(ctx, "reserve", false, &first, error))
		return -1;
	unit = huge ? huge : ctx->page_size;
	if (!block || block > MOST_BLOCK_BYTES / unit)
		return rb_fail(error, RB_USAGE, 0, "Give a block of 1 page or more.",
			       "A block of %llu pages cannot be made.", (unsigned long long)block);
	if (huge & (huge - 1) || (huge && huge <= ctx->page_size))
		return rb_fail(error, RB_USAGE, 0, "Give the size of a huge page, or 0.",
			       "huge=%llu is not the size of a huge page.",
			       (unsigned long long)huge);
	if (huge && huge_pages(huge, "free_hugepages") < (int64_t)block)
		return fail_huge(error, huge, block);
	vmas = rb_count_vmas();
	most = rb_read_number("/proc/sys/vm/max_map_count");
	ctx->private_words[BLOCK_BYTES] = block * unit;
	ctx->private_words[HUGE_BYTES] = huge;
	ctx->private_words[VMAS_BEFORE] = vmas > 0 ? (uint64_t)vmas : 0;
	ctx->private_words[MOST_VMAS] = most > 0 ? (uint64_t)most : 0;
	ctx->private_words[RESERVE] = first;
	return open_block(ctx, error);
}

/* The smallest power of two of pages whose mappings for size bytes fit beside `vmas` others. */
static uint64_t block_that_fits(size_t pages, uint64_t vmas, uint64_t most)
{
	uint64_t block = 1;

	while (block < pages && (pages + block - 1) / block + vmas > most)
		block *= 2;
	return block;
}

static int fail_mappings(struct rb_context *ctx, size_t size, uint64_t count, uint64_t most,
			 struct rb_error *error)
{
	uint64_t unit = ctx->private_words[HUGE_BYTES];
	int64_t vmas = rb_count_vmas();
	uint64_t others = vmas > 0 ? (uint64_t)vmas : ctx->private_words[VMAS_BEFORE];
	char remedy[200];

	if (!unit)
		unit = ctx->page_size;
	if (snprintf(remedy, sizeof(remedy),
		     "The smallest block that fits is block=%llu; or: sysctl vm.max_map_count=%llu.",
		     (unsigned long long)block_that_fits(size / unit, others, most),
		     (unsigned long long)(count + others + 1024)) < 0)
		remedy[0] = '\0';
	return rb_fail_limit(error, count, most, remedy,
			     "block=%llu over %zu bytes needs %llu mappings; vm.max_map_count is "
			     "%llu.",
			     (unsigned long long)(ctx->private_words[BLOCK_BYTES] / unit), size,
			     (unsigned long long)count, (unsigned long long)most);
}

/*
 * Called before the range is given back, while the mappings that were made still count.
 * 1: there are too many of them; -1: it was something else, and *error says what.
 */
static int fail_block(struct rb_context *ctx, size_t size, int err, struct rb_error *error)
{
	int64_t most = (int64_t)ctx->private_words[MOST_VMAS];
	int64_t vmas = rb_count_vmas();
	uint64_t huge = ctx->private_words[HUGE_BYTES];

	if (err == ENOMEM && most > 0 && vmas >= most - 1)
		return 1;
	if (err == ENOMEM && huge)
		return fail_huge(error, huge, size / huge);
	return rb_fail_map(error, size, err);
}

/* A range of address space that nothing else will take; with huge pages aligned to one. */
static void *reserve(struct rb_context *ctx, void *addr, size_t size, struct rb_error *error)
{
	uint64_t huge = ctx->private_words[HUGE_BYTES];
	size_t extra = !addr && huge ? huge : 0;
	unsigned char *got = rb_map_new(ctx, addr, size + extra, PROT_NONE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, error);
	size_t head;

	if (!got || !extra)
		return got;
	head = (size_t)(-(uintptr_t)got & (huge - 1));
	if ((head && rb_munmap(ctx, got, head)) ||
	    rb_munmap(ctx, got + head + size, extra - head)) {
		rb_fail_map(error, size, errno);
		return NULL;
	}
	return got + head;
}

/* How many bytes are mapped: all, or up to the block that failed, with errno set. */
static size_t map_blocks(struct rb_context *ctx, unsigned char *at, size_t size, int how)
{
	int fd = (int)(int64_t)ctx->private_words[FD];
	size_t block = ctx->private_words[BLOCK_BYTES];
	size_t done = 0;

	while (done < size) {
		size_t part = size - done < block ? size - done : block;
		void *got = rb_mmap(ctx, at + done, part, PROT_READ | PROT_WRITE, how, fd, 0);

		if (got == MAP_FAILED)
			return done;
		/* Kernels before 4.17 take MAP_FIXED_NOREPLACE as a hint. */
		if (got != at + done) {
			if (!rb_munmap(ctx, got, part))
				errno = EEXIST;
			return done;
		}
		done += part;
	}
	return size;
}

static void *memfd_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
		       struct rb_error *error)
{
	uint64_t block = ctx->private_words[BLOCK_BYTES];
	uint64_t huge = ctx->private_words[HUGE_BYTES];
	uint64_t count = (size + block - 1) / block;
	uint64_t most = ctx->private_words[MOST_VMAS];
	bool first = !addr || ctx->private_words[RESERVE];
	int how = MAP_PRIVATE | (first ? MAP_FIXED : MAP_FIXED_NOREPLACE) |
		  (flags & RB_MAP_POPULATE ? MAP_POPULATE : 0);
	void *got = addr;
	size_t done;
	int why;

	if (huge && size % huge) {
		rb_fail(error, RB_USAGE, 0, "Give a multiple of it.",
			"A size of %zu bytes is not a whole number of huge pages.", size);
		return NULL;
	}
	if (most && count + ctx->private_words[VMAS_BEFORE] > most) {
		fail_mappings(ctx, size, count, most, error);
		return NULL;
	}
	if ((int64_t)ctx->private_words[FD] < 0 && open_block(ctx, error))
		return NULL;
	if (first)
		got = reserve(ctx, addr, size, error);
	if (!got)
		return NULL;
	done = map_blocks(ctx, got, size, how);
	if (done == size)
		return got;
	why = fail_block(ctx, size, errno, error);
	if (first)
		done = size;
	if (done && rb_munmap(ctx, got, done))
		rb_fail_map(error, size, errno);
	else if (why > 0)
		fail_mappings(ctx, size, count, most, error);
	return NULL;
}

static uint64_t memfd_held(struct rb_context *ctx)
{
	return rb_sealed_bytes((int)(int64_t)ctx->private_words[FD]);
}

static int memfd_tamper(struct rb_context *ctx, enum rb_tamper action)
{
	int fd = (int)(int64_t)ctx->private_words[FD];
	int result = rb_sealed_tamper(&fd, action);

	ctx->private_words[FD] = (uint64_t)(int64_t)fd;
	return result;
}

static void memfd_teardown(struct rb_context *ctx)
{
	int fd = (int)(int64_t)ctx->private_words[FD];

	if (fd >= 0)
		(void)close(fd);
	ctx->private_words[FD] = (uint64_t)-1;
}

static const struct rb_mechanism memfd_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "memfd",
	.applies_pattern = true,
	.purge_restores = true,
	.setup = memfd_setup,
	.map = memfd_map,
	.held = memfd_held,
	.tamper = memfd_tamper,
	.teardown = memfd_teardown,
};
RB_REGISTER(memfd_mechanism);
