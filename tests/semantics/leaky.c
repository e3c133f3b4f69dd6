/* SPDX-License-Identifier: MIT */
/*
 * A mechanism that is wrong on purpose: one file, mapped shared, that every mapping shows from its
 * start. Stores leak into other mappings, children and the reference. With `dirty` the last byte
 * of each page is not the pattern's. With `stays` the file is open in programs that are executed.
 */
#include "mechanism.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FD, FILLED, DIRTY };

static int leaky_setup(struct rb_context *ctx, struct rb_error *error)
{
	bool dirty, stays;
	int fd;

	if (rb_option_switch(ctx, "dirty", false, &dirty, error) ||
	    rb_option_switch(ctx, "stays", false, &stays, error))
		return -1;
	fd = memfd_create("leaky", stays ? 0 : MFD_CLOEXEC);
	if (fd < 0)
		return rb_fail(error, RB_UNSUPPORTED, errno, "", "memfd_create failed.");
	ctx->private_words[FD] = (uint64_t)fd;
	ctx->private_words[DIRTY] = dirty;
	return 0;
}

static void *leaky_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
		       struct rb_error *error)
{
	int fd = (int)ctx->private_words[FD];
	int fixed = addr ? MAP_FIXED_NOREPLACE : 0;
	unsigned char *got;

	(void)flags;
	if (ctx->private_words[FILLED] < size && ftruncate(fd, (off_t)size)) {
		rb_fail(error, RB_UNSUPPORTED, errno, "", "ftruncate failed.");
		return NULL;
	}
	got = rb_mmap(ctx, addr, size, PROT_READ | PROT_WRITE, MAP_SHARED | fixed, fd, 0);
	if (got == MAP_FAILED) {
		rb_fail(error, RB_UNSUPPORTED, errno, "", "mmap failed.");
		return NULL;
	}
	if (ctx->private_words[FILLED] < size) {
		rb_fill(ctx, got, size);
		for (size_t end = ctx->page_size; ctx->private_words[DIRTY] && end <= size;
		     end += ctx->page_size)
			got[end - 1] = (unsigned char)~got[end - 1];
		ctx->private_words[FILLED] = size;
	}
	return got;
}

static int leaky_tamper(struct rb_context *ctx, enum rb_tamper action)
{
	int fd = (int)ctx->private_words[FD];

	if (action == RB_TAMPER_WRITE)
		return pwrite(fd, "!", 1, 0) == 1 ? 0 : -1;
	return ftruncate(fd, 0);
}

static void leaky_teardown(struct rb_context *ctx)
{
	(void)close((int)ctx->private_words[FD]);
}

static const struct rb_mechanism leaky_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "leaky",
	.applies_pattern = true,
	.setup = leaky_setup,
	.map = leaky_map,
	.tamper = leaky_tamper,
	.teardown = leaky_teardown,
};
RB_REGISTER(leaky_mechanism);
