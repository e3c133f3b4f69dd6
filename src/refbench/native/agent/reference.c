/* SPDX-License-Identifier: MIT */
/* `reference`: what becomes of the reference page, and which memory is accepted as one. */
#include "agent.h"

#include "compat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define HUGE_BYTES (2u << 20)
/* Between 2 and 4 GiB, where no program's own memory and no region lies. */
#if UINTPTR_MAX > UINT32_MAX
#define HIGH_32 0x90000000ul
#else
#define HIGH_32 0xe4000000ul
#endif
#define MOST_MADE 8

/* What was made for a sample; a mechanism may refer to it until its teardown. */
static struct made {
	void *at;
	size_t size;
} made[MOST_MADE];
static size_t made_count;

static void *keep(void *at, size_t size)
{
	if (at == MAP_FAILED || made_count == MOST_MADE)
		return NULL;
	made[made_count++] = (struct made){ at, size };
	return at;
}

static void *new_page(void *where, size_t size, int flags)
{
	unsigned char *page = keep(mmap(where, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags,
					-1, 0), size);

	if (page)
		rb_fill(&context, page, size);
	return page;
}

/* A page of the page cache, mapped for reading. */
static void *file_page(void)
{
	int fd = open(options.scratch, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	size_t size = context.page_size;
	void *page = NULL;

	if (fd < 0)
		return NULL;
	if (write(fd, context.pattern.page, size) == (ssize_t)size)
		page = keep(mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0), size);
	return close(fd) ? NULL : page;
}

static void *mechanism_page(void)
{
	struct rb_error error;
	unsigned char *page = mechanism->map(&context, NULL, context.page_size, 0, &error);

	if (!page || !keep(page, context.page_size))
		return NULL;
	return *(volatile unsigned char *)page == context.pattern.page[0] ? page : NULL;
}

/* The kernel's own data for the vDSO: a mapping of page frames. */
static void *device_page(void)
{
	char line[256];
	unsigned long start;
	void *page = NULL;
	FILE *maps = fopen("/proc/self/maps", "re");

	while (maps && !page && fgets(line, sizeof(line), maps))
		if (strstr(line, "[vvar]") && sscanf(line, "%lx-", &start) == 1)
			page = (void *)start;
	if (maps && fclose(maps))
		return NULL;
	return page;
}

static void *no_page(bool inaccessible)
{
	size_t size = context.page_size;
	void *page = new_page(NULL, size, MAP_PRIVATE);

	if (!page)
		return NULL;
	if (inaccessible)
		return mprotect(page, size, PROT_NONE) ? NULL : page;
	made_count--;
	return munmap(page, size) ? NULL : page;
}

static void ask_kernel(void *argument)
{
	static const uint32_t none[6];

	*(int64_t *)argument = rb_compat_call(RB_COMPAT_GETPID, none);
}

static void *compat_page(void)
{
	struct trap trap;
	void *page;
	int64_t pid = 0;

	guard_run(ask_kernel, &pid, &trap);
	if (trap.signal || pid != getpid())
		return NULL;
	page = new_page((void *)HIGH_32, context.page_size, MAP_PRIVATE | MAP_FIXED_NOREPLACE);
	return page == (void *)HIGH_32 ? page : NULL;
}

static void *make(enum from from)
{
	unsigned char *huge;

	switch (from) {
	case FROM_ANONYMOUS:
		return new_page(NULL, context.page_size, MAP_PRIVATE);
	case FROM_FILE:
		return file_page();
	case FROM_SHARED:
		return new_page(NULL, context.page_size, MAP_SHARED);
	case FROM_HUGETLB:
		huge = new_page(NULL, HUGE_BYTES, MAP_PRIVATE | MAP_HUGETLB);
		return huge ? huge + context.page_size : NULL;
	case FROM_MAPPING:
		return mechanism_page();
	case FROM_DEVICE:
		return device_page();
	case FROM_UNMAPPED:
	case FROM_INACCESSIBLE:
		return no_page(from == FROM_INACCESSIBLE);
	case FROM_COMPAT:
	case FROM_COMPAT_SIGNED:
		return compat_page();
	}
	return NULL;
}

static unsigned int flags_of(enum from from)
{
	if (from == FROM_COMPAT_SIGNED)
		return RB_REFER_COMPAT | RB_REFER_SIGNED;
	return from == FROM_COMPAT ? RB_REFER_COMPAT : 0;
}

static void refuse(struct observation *seen, int err, const char *detail)
{
	seen->ok = false;
	seen->err = err;
	detail_set(seen, "%s", detail);
}

static void refer(struct observation *seen, enum from from)
{
	void *content;

	if (!mechanism->refer) {
		refuse(seen, EOPNOTSUPP, "the mechanism refers to no page");
		return;
	}
	content = make(from);
	if (!content)
		refuse(seen, 0, flags_of(from) ? "unavailable: no 32-bit system calls here"
					       : "unavailable: no such memory here");
	else if (mechanism->refer(&context, content, flags_of(from)))
		refuse(seen, errno, "");
}

int reference_run(const struct step *s)
{
	struct observation seen = observation_of(s);

	if (s->choice >= FROM_ANONYMOUS)
		refer(&seen, (enum from)s->choice);
	else if (!mechanism->tamper)
		refuse(&seen, EOPNOTSUPP, "the mechanism has no reference page");
	else if (mechanism->tamper(&context, (enum rb_tamper)s->choice))
		refuse(&seen, errno, "");
	return observe(&seen);
}

/* At the end of a sample. */
void reference_forget(void)
{
	while (made_count) {
		made_count--;
		if (munmap(made[made_count].at, made[made_count].size))
			_exit(1);
	}
}
