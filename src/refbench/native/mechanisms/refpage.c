/* SPDX-License-Identifier: MIT */
/*
 * refpage_create(2): the kernel keeps a page with the pattern behind a descriptor, and private
 * mappings of the descriptor show that page until the first store.
 *
 * No kernel has a number for the call by agreement. Ours hands the one that it was built with to
 * its first process, in the environment. Elsewhere whoever has built the kernel sets it.
 */
#include "compat.h"
#include "reference_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VARIABLE "REFBENCH_NR_REFPAGE_CREATE"
#define MOST_NUMBER 4095
#define REMEDY "Build a kernel that has it with `refbench kernel build`, and measure with -b qemu."

/* ctx->private_words */
enum { NUMBER = RB_REFERENCE_OWN };

/* The number of the system call, 0 if nothing tells. */
static uint64_t find_number(void)
{
	const char *text = getenv(VARIABLE);
	uint64_t number;
	char *end;

	if (!text)
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	return errno || end == text || *end || number > MOST_NUMBER ? 0 : number;
}

static int refpage_fail(const struct rb_context *ctx, int err, struct rb_error *error)
{
	struct rlimit files;

	if (err == ENOSYS)
		return rb_fail(error, RB_UNSUPPORTED, err, REMEDY,
			       "This kernel has no refpage_create(2), or not as call %llu.",
			       (unsigned long long)ctx->private_words[NUMBER]);
	if (err == EMFILE && !getrlimit(RLIMIT_NOFILE, &files))
		return rb_fail_limit(error, (uint64_t)files.rlim_cur + 1, (uint64_t)files.rlim_cur,
				     "Raise it with ulimit -n.",
				     "The process has no file descriptor left for a reference "
				     "page.");
	if (err == ENOMEM)
		return rb_fail_map(error, ctx->page_size, err);
	return rb_fail(error, RB_UNSUPPORTED, err, REMEDY, "refpage_create(2) failed: %s.",
		       strerror(err));
}

static int refpage_make(struct rb_context *ctx, const void *content, bool by_compat)
{
	/* The call repeats a content that is shorter than the page. */
	bool is_byte = ctx->pattern.is_byte && content == ctx->pattern.page;
	size_t size = is_byte ? 1 : ctx->page_size;
	const uint32_t args[6] = { (uint32_t)(uintptr_t)content, (uint32_t)size };
	long fd;

	rb_count(&ctx->counters->syscalls);
	if (!by_compat)
		return (int)syscall((long)ctx->private_words[NUMBER], content, size, 0ul);
	fd = rb_compat_call((uint32_t)ctx->private_words[NUMBER], args);
	if (fd >= 0)
		return (int)fd;
	errno = (int)-fd;
	return -1;
}

static const struct rb_reference_file refpage_file = { refpage_make, refpage_fail };

static int refpage_setup(struct rb_context *ctx, struct rb_error *error)
{
	ctx->private_words[NUMBER] = find_number();
	if (!ctx->private_words[NUMBER])
		return rb_fail(error, RB_UNSUPPORTED, 0, REMEDY,
			       "Nothing tells which system call refpage_create(2) is here: there "
			       "is no number in the variable " VARIABLE " of the environment.");
	return rb_reference_open(ctx, &refpage_file, error);
}

static void *refpage_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
			 struct rb_error *error)
{
	return rb_reference_map(ctx, &refpage_file, addr, size, flags, error);
}

static int refpage_refer(struct rb_context *ctx, const void *content, unsigned int flags)
{
	return rb_reference_refer(ctx, &refpage_file, content, flags);
}

static const struct rb_mechanism refpage_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "refpage",
	.applies_pattern = true,
	.purge_restores = true,
	.setup = refpage_setup,
	.map = refpage_map,
	.held = rb_reference_held,
	.tamper = rb_reference_tamper,
	.refer = refpage_refer,
	.teardown = rb_reference_teardown,
};
RB_REGISTER(refpage_mechanism);
