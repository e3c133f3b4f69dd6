/* SPDX-License-Identifier: MIT */
/*
 * A sealed memfd as large as the mapping, filled when it is mapped: one mmap call and one VMA, at
 * the price of the memory. The file's clean pages count in Shmem, not in the process's RSS.
 */
#include "sealed.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * ctx->private_words. The mappings keep the files alive; only the latest file's descriptor stays
 * open, for tamper(), until its mapping is gone.
 */
enum { FD, ADDRESS, BYTES, BYTES_LEFT, FILES_MADE };

/* The name in /proc/self/maps tells held() which file it is and how large. */
#define NAME "refbench-full"
#define MOST_FILES 65536

static void set_fd(struct rb_context *ctx, int fd)
{
	ctx->private_words[FD] = (uint64_t)(int64_t)fd;
}

static void close_latest(struct rb_context *ctx)
{
	int fd = (int)(int64_t)ctx->private_words[FD];

	if (fd < 0)
		return;
	rb_count(&ctx->counters->syscalls);
	(void)close(fd);
	set_fd(ctx, -1);
}

static int memfd_full_setup(struct rb_context *ctx, struct rb_error *error)
{
	int fd;

	set_fd(ctx, -1);
	/* Whether such files can be made is known before the first map. */
	fd = rb_sealed_file(ctx, NAME, ctx->page_size, 0, error);
	if (fd < 0)
		return -1;
	(void)close(fd);
	return 0;
}

static void *memfd_full_map(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
			    struct rb_error *error)
{
	int populate = flags & RB_MAP_POPULATE ? MAP_POPULATE : 0;
	uint64_t serial = ctx->private_words[FILES_MADE]++ % MOST_FILES;
	char name[64];
	void *got;
	int fd;

	if (snprintf(name, sizeof(name), NAME "-%llu-%zu", (unsigned long long)serial, size) < 0)
		name[0] = '\0';
	close_latest(ctx);
	fd = rb_sealed_file(ctx, name, size, 0, error);
	if (fd < 0)
		return NULL;
	got = rb_map_new(ctx, addr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | populate, fd, 0,
			 error);
	set_fd(ctx, fd);
	if (!got) {
		close_latest(ctx);
		return NULL;
	}
	ctx->private_words[ADDRESS] = (uintptr_t)got;
	ctx->private_words[BYTES] = size;
	ctx->private_words[BYTES_LEFT] = size;
	return got;
}

static void memfd_full_forget(struct rb_context *ctx, void *addr, size_t size)
{
	uint64_t first = ctx->private_words[ADDRESS];
	uint64_t last = first + ctx->private_words[BYTES];
	uint64_t from = (uintptr_t)addr > first ? (uintptr_t)addr : first;
	uint64_t to = (uintptr_t)addr + size < last ? (uintptr_t)addr + size : last;

	if (to <= from)
		return;
	ctx->private_words[BYTES_LEFT] -= to - from;
	if (!ctx->private_words[BYTES_LEFT])
		close_latest(ctx);
}

/* The bytes of the file that a line of /proc/self/maps shows, 0 if it was seen before. */
static uint64_t file_of_line(const char *line, uint64_t *seen)
{
	const char *at = strstr(line, "/memfd:" NAME "-");
	uint64_t number[2] = { 0, 0 };

	if (!at)
		return 0;
	at += strlen("/memfd:" NAME "-");
	for (size_t i = 0; i < 2; i++) {
		while (*at >= '0' && *at <= '9')
			number[i] = number[i] * 10 + (uint64_t)(*at++ - '0');
		at += *at == '-';
	}
	if (number[0] >= MOST_FILES || seen[number[0] / 64] & 1ull << number[0] % 64)
		return 0;
	seen[number[0] / 64] |= 1ull << number[0] % 64;
	return number[1];
}

/* A file is held as a whole as long as any part of it is mapped. */
static uint64_t memfd_full_held(struct rb_context *ctx)
{
	static uint64_t seen[MOST_FILES / 64];
	uint64_t held = 0;
	char text[4096];
	size_t used = 0;
	ssize_t got;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	(void)ctx;
	if (fd < 0)
		return 0;
	memset(seen, 0, sizeof(seen));
	while ((got = read(fd, text + used, sizeof(text) - 1 - used)) > 0) {
		char *line = text;
		char *end;

		used += (size_t)got;
		text[used] = '\0';
		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			held += file_of_line(line, seen);
		}
		used = strlen(line);
		memmove(text, line, used);
		if (used == sizeof(text) - 1)
			used = 0;
	}
	(void)close(fd);
	return held;
}

static int memfd_full_tamper(struct rb_context *ctx, enum rb_tamper action)
{
	int fd = (int)(int64_t)ctx->private_words[FD];
	int result = rb_sealed_tamper(&fd, action);

	set_fd(ctx, fd);
	return result;
}

static const struct rb_mechanism memfd_full_mechanism = {
	.api_version = RB_API_VERSION,
	.name = "memfd-full",
	.applies_pattern = true,
	.purge_restores = true,
	.setup = memfd_full_setup,
	.map = memfd_full_map,
	.forget = memfd_full_forget,
	.held = memfd_full_held,
	.tamper = memfd_full_tamper,
	.teardown = close_latest,
};
RB_REGISTER(memfd_full_mechanism);
