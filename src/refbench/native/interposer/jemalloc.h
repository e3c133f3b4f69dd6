/* SPDX-License-Identifier: MIT */
/* What the interposer uses of jemalloc 5.3, whose public names were given the prefix rbje_. */
#ifndef REFBENCH_JEMALLOC_H
#define REFBENCH_JEMALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* jemalloc reads it when it is first used; it overrides every other place of settings. */
extern const char *rbje_malloc_conf_2_conf_harder;

void *rbje_malloc(size_t size);
void *rbje_mallocx(size_t size, int flags);
void rbje_free(void *addr);
size_t rbje_sallocx(const void *addr, int flags);
size_t rbje_nallocx(size_t size, int flags);
size_t rbje_xallocx(void *addr, size_t size, size_t extra, int flags);
int rbje_mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size);
int rbje_mallctlnametomib(const char *name, size_t *mib, size_t *mib_length);
int rbje_mallctlbymib(const size_t *mib, size_t mib_length, void *old, size_t *old_size,
		      void *new, size_t new_size);

/* Flags of rbje_mallocx(), as MALLOCX_... in jemalloc.h. */
#define RBJE_ALIGN_LG(lg) ((int)(lg))
#define RBJE_ZERO 0x40
#define RBJE_NO_CACHE 0x100
#define RBJE_ARENA(index) ((int)(((index) + 1u) << 20))

/* jemalloc(3), arena.<i>.extent_hooks; true means that a hook opts out. */
struct rbje_hooks {
	void *(*alloc)(struct rbje_hooks *, void *new_addr, size_t size, size_t alignment,
		       bool *zero, bool *commit, unsigned int arena);
	bool (*dalloc)(struct rbje_hooks *, void *addr, size_t size, bool committed,
		       unsigned int arena);
	void (*destroy)(struct rbje_hooks *, void *addr, size_t size, bool committed,
			unsigned int arena);
	bool (*commit)(struct rbje_hooks *, void *addr, size_t size, size_t offset, size_t length,
		       unsigned int arena);
	bool (*decommit)(struct rbje_hooks *, void *addr, size_t size, size_t offset,
			 size_t length, unsigned int arena);
	bool (*purge_lazy)(struct rbje_hooks *, void *addr, size_t size, size_t offset,
			   size_t length, unsigned int arena);
	bool (*purge_forced)(struct rbje_hooks *, void *addr, size_t size, size_t offset,
			     size_t length, unsigned int arena);
	bool (*split)(struct rbje_hooks *, void *addr, size_t size, size_t size_a, size_t size_b,
		      bool committed, unsigned int arena);
	bool (*merge)(struct rbje_hooks *, void *addr_a, size_t size_a, void *addr_b,
		      size_t size_b, bool committed, unsigned int arena);
};

#endif
