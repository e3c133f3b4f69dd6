/* SPDX-License-Identifier: MIT */
/* What mechanism.h promises to mechanisms and front ends. Nothing here allocates. */
#include "mechanism.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* ---- the registry: the linker gathers what RB_REGISTER leaves in the section ---- */

#define RB_EDGE __attribute__((weak, visibility("hidden")))
extern const struct rb_mechanism *const __start_rb_mechanisms[] RB_EDGE;
extern const struct rb_mechanism *const __stop_rb_mechanisms[] RB_EDGE;

const struct rb_mechanism *rb_mechanism_at(size_t index)
{
	uintptr_t first = (uintptr_t)__start_rb_mechanisms;
	uintptr_t last = (uintptr_t)__stop_rb_mechanisms;

	if (index >= (last - first) / sizeof(__start_rb_mechanisms[0]))
		return NULL;
	return __start_rb_mechanisms[index];
}

const struct rb_mechanism *rb_mechanism_find(const char *name, size_t length)
{
	const struct rb_mechanism *m;

	for (size_t i = 0; (m = rb_mechanism_at(i)); i++)
		if (strlen(m->name) == length && !memcmp(m->name, name, length))
			return m;
	return NULL;
}

/* ---- failures ---- */

static void fill_error(struct rb_error *error, enum rb_failure kind, int err, const char *remedy,
		       const char *format, va_list args)
{
	error->kind = kind;
	error->err = err;
	error->wanted = 0;
	error->limit = 0;
	if (vsnprintf(error->message, sizeof(error->message), format, args) < 0)
		error->message[0] = '\0';
	if (snprintf(error->remedy, sizeof(error->remedy), "%s", remedy ? remedy : "") < 0)
		error->remedy[0] = '\0';
}

int rb_fail(struct rb_error *error, enum rb_failure kind, int err, const char *remedy,
	    const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fill_error(error, kind, err, remedy, format, args);
	va_end(args);
	return -1;
}

int rb_fail_limit(struct rb_error *error, uint64_t wanted, uint64_t limit, const char *remedy,
		  const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fill_error(error, RB_LIMIT_HIT, 0, remedy, format, args);
	va_end(args);
	error->wanted = wanted;
	error->limit = limit;
	return -1;
}

/* ---- options ---- */

const char *rb_option_text(const struct rb_context *ctx, const char *key)
{
	for (size_t i = 0; i < ctx->option_count; i++)
		if (!strcmp(ctx->options[i].key, key))
			return ctx->options[i].value;
	return NULL;
}

/* The factor of a unit as in refbench.grammar: k, KB and KiB are all 1024. 0: no unit. */
static uint64_t unit_factor(const char *unit)
{
	static const char letters[] = "KMGT";
	const char *found;
	char first = unit[0];

	if (!first || (!strcmp(unit, "B") || !strcmp(unit, "b")))
		return 1;
	if (first >= 'a' && first <= 'z')
		first = (char)(first - 'a' + 'A');
	found = strchr(letters, first);
	if (!found)
		return 0;
	unit++;
	if (*unit == 'i' || *unit == 'I')
		unit++;
	if (*unit == 'b' || *unit == 'B')
		unit++;
	return *unit ? 0 : 1ull << (10 * (found - letters + 1));
}

int rb_option_number(const struct rb_context *ctx, const char *key, uint64_t fallback,
		     uint64_t *out, struct rb_error *error)
{
	const char *text = rb_option_text(ctx, key);
	const char *at = text;
	uint64_t value = 0;
	uint64_t factor;

	if (!text) {
		*out = fallback;
		return 0;
	}
	while (*at >= '0' && *at <= '9') {
		uint64_t digit = (uint64_t)(*at++ - '0');

		if (value > (UINT64_MAX - digit) / 10)
			return rb_fail(error, RB_USAGE, 0, "Give a smaller number.",
				       "The option %s=%s is too large.", key, text);
		value = value * 10 + digit;
	}
	factor = unit_factor(at);
	if (at == text || !factor)
		return rb_fail(error, RB_USAGE, 0, "Write for example 16 or 64KiB.",
			       "The option %s=%s is not a whole number.", key, text);
	if (value > UINT64_MAX / factor)
		return rb_fail(error, RB_USAGE, 0, "Give a smaller number.",
			       "The option %s=%s is too large.", key, text);
	*out = value * factor;
	return 0;
}

int rb_option_switch(const struct rb_context *ctx, const char *key, bool fallback, bool *out,
		     struct rb_error *error)
{
	static const char *const on[] = { "yes", "true", "on", "1" };
	static const char *const off[] = { "no", "false", "off", "0" };
	const char *text = rb_option_text(ctx, key);

	*out = fallback;
	if (!text)
		return 0;
	for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++) {
		if (!strcmp(text, on[i]) || !strcmp(text, off[i])) {
			*out = !strcmp(text, on[i]);
			return 0;
		}
	}
	return rb_fail(error, RB_USAGE, 0, "Write yes or no.",
		       "The option %s=%s is a switch.", key, text);
}

/* ---- the pattern ---- */

void rb_fill(const struct rb_context *ctx, void *addr, size_t size)
{
	unsigned char *to = addr;

	if (ctx->pattern.is_byte) {
		memset(addr, ctx->pattern.byte, size);
		return;
	}
	while (size) {
		size_t part = size < ctx->page_size ? size : ctx->page_size;

		memcpy(to, ctx->pattern.page, part);
		to += part;
		size -= part;
	}
}

/* ---- counted system calls ---- */

void rb_count(atomic_uint_least64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void *rb_mmap(struct rb_context *ctx, void *addr, size_t size, int prot, int flags, int fd,
	      int64_t offset)
{
	rb_count(&ctx->counters->syscalls);
	return mmap(addr, size, prot, flags, fd, offset);
}

int rb_munmap(struct rb_context *ctx, void *addr, size_t size)
{
	rb_count(&ctx->counters->syscalls);
	return munmap(addr, size);
}

int rb_mprotect(struct rb_context *ctx, void *addr, size_t size, int prot)
{
	rb_count(&ctx->counters->syscalls);
	return mprotect(addr, size, prot);
}

int rb_madvise(struct rb_context *ctx, void *addr, size_t size, int advice)
{
	rb_count(&ctx->counters->syscalls);
	return madvise(addr, size, advice);
}

void *rb_map_new(struct rb_context *ctx, void *addr, size_t size, int prot, int flags, int fd,
		 int64_t offset, struct rb_error *error)
{
	void *got = rb_mmap(ctx, addr, size, prot, flags | (addr ? MAP_FIXED_NOREPLACE : 0), fd,
			    offset);

	if (got == MAP_FAILED) {
		rb_fail_map(error, size, errno);
		return NULL;
	}
	/* Kernels before 4.17 take MAP_FIXED_NOREPLACE as a hint. */
	if (addr && got != addr) {
		if (rb_munmap(ctx, got, size)) {
			rb_fail_map(error, size, errno);
			return NULL;
		}
		rb_fail_map(error, size, EEXIST);
		return NULL;
	}
	return got;
}

void *rb_map_anonymous(struct rb_context *ctx, void *addr, size_t size, unsigned int flags,
		       struct rb_error *error)
{
	int populate = flags & RB_MAP_POPULATE ? MAP_POPULATE : 0;

	return rb_map_new(ctx, addr, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | populate, -1, 0, error);
}

/* What the kernel compares a request for memory with, in bytes; UINT64_MAX if nothing is known. */
static uint64_t memory_limit(const char **what, const char **remedy)
{
	struct rlimit as;
	int64_t total;

	*remedy = "Give a smaller size.";
	if (!getrlimit(RLIMIT_AS, &as) && as.rlim_cur != RLIM_INFINITY) {
		*what = "the process's address space limit";
		*remedy = "Give a smaller size, or raise the limit with ulimit -v.";
		return as.rlim_cur;
	}
	if (rb_read_number("/proc/sys/vm/overcommit_memory") == 2) {
		*what = "CommitLimit (vm.overcommit_memory is 2)";
		*remedy = "Give a smaller size, or set vm.overcommit_memory to 0.";
		total = rb_read_field("/proc/meminfo", "CommitLimit");
	} else {
		int64_t swap = rb_read_field("/proc/meminfo", "SwapTotal");

		*what = "this system's memory and swap";
		total = rb_read_field("/proc/meminfo", "MemTotal");
		total += swap > 0 && total >= 0 ? swap : 0;
	}
	return total < 0 ? UINT64_MAX : (uint64_t)total * 1024;
}

int rb_fail_map(struct rb_error *error, size_t size, int err)
{
	int64_t most = rb_read_number("/proc/sys/vm/max_map_count");
	int64_t vmas = rb_count_vmas();
	const char *remedy;
	const char *what;
	uint64_t limit;

	if (err == EEXIST)
		return rb_fail(error, RB_USAGE, err, "Unmap what is there first.",
			       "The address range of a new mapping of %zu bytes is in use.", size);
	if (err != ENOMEM)
		return rb_fail(error, RB_UNSUPPORTED, err, "Look up the error in mmap(2).",
			       "The kernel refused a mapping of %zu bytes: %s.", size,
			       strerror(err));
	/* The kernel lets the count pass the limit by one, and may need one VMA for a split. */
	if (most > 0 && vmas >= most - 2)
		return rb_fail_limit(error, (uint64_t)vmas + 1, (uint64_t)most,
				     "Raise it: sysctl vm.max_map_count=262144.",
				     "The process has %lld mappings; vm.max_map_count is %lld.",
				     (long long)vmas, (long long)most);
	limit = memory_limit(&what, &remedy);
	return rb_fail_limit(error, size, limit, remedy,
			     "The kernel refused %zu bytes of memory; %s: %llu bytes.", size, what,
			     (unsigned long long)limit);
}

/* ---- /proc and /sys ---- */

int64_t rb_read_number(const char *path)
{
	char text[32];
	ssize_t length;
	int64_t value = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	length = read(fd, text, sizeof(text) - 1);
	if (close(fd) || length <= 0 || text[0] < '0' || text[0] > '9')
		return -1;
	for (ssize_t i = 0; i < length && text[i] >= '0' && text[i] <= '9'; i++) {
		if (value > (INT64_MAX - 9) / 10)
			return -1;
		value = value * 10 + (text[i] - '0');
	}
	return value;
}

/* Whole files of a few KiB: what is longer than the buffer is not seen. */
int64_t rb_read_field(const char *path, const char *key)
{
	char text[8192];
	size_t length = strlen(key);
	size_t used = 0;
	ssize_t got;
	const char *line = text;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while ((got = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)got;
	if (close(fd) || got < 0)
		return -1;
	text[used] = '\0';
	for (; line; line = strchr(line, '\n')) {
		int64_t value = 0;

		line += *line == '\n';
		if (strncmp(line, key, length) || !strchr(": \t", line[length]))
			continue;
		for (line += length; *line == ':' || *line == ' ' || *line == '\t';)
			line++;
		if (*line < '0' || *line > '9')
			return -1;
		while (*line >= '0' && *line <= '9' && value < (INT64_MAX - 9) / 10)
			value = value * 10 + (*line++ - '0');
		return value;
	}
	return -1;
}

int64_t rb_count_vmas(void)
{
	char text[4096];
	int64_t lines = 0;
	ssize_t got;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while ((got = read(fd, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < got; i++)
			lines += text[i] == '\n';
	if (close(fd) || got < 0)
		return -1;
	return lines;
}
