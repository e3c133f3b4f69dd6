/* SPDX-License-Identifier: MIT */
/* What the launcher sets once and every agent inherits; a refused setting is noted, not fatal. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_NODES 1024
/* glibc's default; a soft limit of "unlimited" would change where mmap places things. */
#define STACK_BYTES (8UL << 20)

bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written;
	int saved;

	if (fd < 0)
		return false;
	written = write(fd, text, strlen(text));
	saved = errno;
	if (close(fd) < 0 || written < 0) {
		errno = written < 0 ? saved : errno;
		return false;
	}
	return true;
}

static void pin(const char *list)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	while (*list) {
		char *end;
		unsigned long cpu = strtoul(list, &end, 10);

		if (end == list || cpu >= CPU_SETSIZE) {
			errno = EINVAL;
			note("affinity");
			return;
		}
		CPU_SET(cpu, &set);
		list = *end == ',' ? end + 1 : end;
	}
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		note("affinity");
}

/* An explicit policy also keeps automatic NUMA balancing away from the process. */
static void bind_memory(bool pinned)
{
	unsigned long mask[MAX_NODES / (8 * sizeof(unsigned long))] = { 0 };
	unsigned int cpu, node;

	if (!pinned) {
		if (syscall(SYS_set_mempolicy, MPOL_LOCAL, NULL, 0UL) < 0)
			note("numa");
		return;
	}
	if (syscall(SYS_getcpu, &cpu, &node, NULL) < 0 || node >= MAX_NODES) {
		note("numa");
		return;
	}
	mask[node / (8 * sizeof(*mask))] |= 1UL << node % (8 * sizeof(*mask));
	if (syscall(SYS_set_mempolicy, MPOL_BIND, mask, (unsigned long)MAX_NODES) < 0)
		note("numa");
}

static void join_cgroup(const char *directory)
{
	char path[4096];
	int length = snprintf(path, sizeof(path), "%s/cgroup.procs", directory);

	if (length < 0 || (size_t)length >= sizeof(path)) {
		errno = ENAMETOOLONG;
		note("cgroup");
		return;
	}
	if (!write_file(path, "0"))
		note("cgroup");
}

static void settle_randomness(void)
{
	int now = personality(0xffffffff);
	struct rlimit stack;

	if (now < 0 || personality((unsigned long)now | ADDR_NO_RANDOMIZE) < 0)
		note("aslr");
	if (getrlimit(RLIMIT_STACK, &stack) < 0) {
		note("stack");
		return;
	}
	stack.rlim_cur = STACK_BYTES < stack.rlim_max ? STACK_BYTES : stack.rlim_max;
	if (setrlimit(RLIMIT_STACK, &stack) < 0)
		note("stack");
}

void settings_make(int count, char **words)
{
	bool pinned = false;

	for (int i = 0; i < count; i++) {
		if (!strncmp(words[i], "cpus=", 5)) {
			pin(words[i] + 5);
			pinned = true;
		} else if (!strncmp(words[i], "cgroup=", 7)) {
			join_cgroup(words[i] + 7);
		}
	}
	bind_memory(pinned);
	settle_randomness();
}
