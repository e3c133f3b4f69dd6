/* SPDX-License-Identifier: MIT */
/*
 * memset whose setup() plants a fault of the kernel: by the module refbench_faults, or by a
 * mapping of MAP_REFPAGE as it was first posted (fault=v1).
 */
#include "mechanism.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEVICE "/dev/refbench_faults"
#define MAP_REFPAGE_V1 0x400000 /* mm/refpage_v1.h of a kernel with the test-only patch */
#define V1_PAGES 8

/* Thresholds that a test can wait for. What a kernel does not have need not be set. */
static const char *const settings[][2] = {
	{ "/proc/sys/kernel/watchdog_thresh", "1" },
	{ "/proc/sys/kernel/hung_task_timeout_secs", "1" },
	{ "/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout", "3" },
};

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t put;

	if (fd < 0)
		return -1;
	put = write(fd, text, strlen(text));
	if (close(fd) || put != (ssize_t)strlen(text))
		return -1;
	return 0;
}

static int by_the_module(struct rb_context *ctx, const char *fault, struct rb_error *error)
{
	uint64_t seconds;
	char words[32];

	if (rb_option_number(ctx, "seconds", 6, &seconds, error))
		return -1;
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (put(settings[i][0], settings[i][1]) && errno != ENOENT)
			return rb_fail(error, RB_UNSUPPORTED, errno, "Run it as root in a guest.",
				       "%s cannot be written.", settings[i][0]);
	snprintf(words, sizeof(words), "%s %llu", fault, (unsigned long long)seconds);
	if (put(DEVICE, words))
		return rb_fail(error, RB_UNSUPPORTED, errno, "Load refbench_faults.",
			       "%s does not take '%s'.", DEVICE, words);
	return 0;
}

/* Pages of it that were read are counted as one thing when mapped, and another at the end. */
static int by_v1(struct rb_context *ctx, struct rb_error *error)
{
	size_t size = V1_PAGES * ctx->page_size;
	unsigned char *page = mmap(NULL, ctx->page_size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile unsigned char *area;
	unsigned char *place;

	/* Neighbours of another protection: beside its like, v1 becomes anonymous memory. */
	place = mmap(NULL, size + 2 * ctx->page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (page == MAP_FAILED || place == MAP_FAILED)
		return rb_fail(error, RB_UNSUPPORTED, errno, "", "There is no memory for it.");
	memset(page, 0x5a, ctx->page_size);
	area = place + ctx->page_size;
	if (syscall(SYS_mmap, area, size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_REFPAGE_V1, -1, page) < 0)
		return rb_fail(error, RB_UNSUPPORTED, errno, "", "mmap(MAP_REFPAGE_V1) fails.");
	for (size_t at = 0; at < size; at += ctx->page_size)
		if (area[at] != 0x5a)
			return rb_fail(error, RB_UNSUPPORTED, 0, "Take the kernel v1.",
				       "This kernel does not know v1's MAP_REFPAGE.");
	return 0;
}

static int plant_setup(struct rb_context *ctx, struct rb_error *error)
{
	const char *fault = rb_option_text(ctx, "fault");

	if (!fault || !strcmp(fault, "none"))
		return 0;	/* the agent asks so whether there is a plant at all */
	if (!strcmp(fault, "v1"))
		return by_v1(ctx, error);
	return by_the_module(ctx, fault, error);
}

static void *plant_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
		       struct rb_error *error)
{
	unsigned char *at = rb_map_new(ctx, addr, size, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, error);

	(void)flags;	/* every page is populated in any case */
	if (at)
		rb_fill(ctx, at, size);
	return at;
}

static const struct rb_mechanism plant_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "plant",
	.applies_pattern = true,
	.setup = plant_setup,
	.map = plant_map,
};
RB_REGISTER(plant_mechanism);
