/* SPDX-License-Identifier: MIT */
/* `kernel-reads ... core`: a forked child aborts, and its core file is looked into. */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[512];

static void unavailable(struct check *check, const char *why)
{
	check->seen.ok = false;
	detail_set(&check->seen, "unavailable: %s", why);
}

/* Whether core files go to the working directory of the process. */
static bool pattern_is_local(void)
{
	char text[128];
	int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd < 0 || close(fd) || got <= 0)
		return false;
	text[got] = '\0';
	return text[0] != '|' && text[0] != '\n' && !strchr(text, '/');
}

static void dump(void)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	struct sigaction standard;

	memset(&standard, 0, sizeof(standard));
	standard.sa_handler = SIG_DFL;
	if (setrlimit(RLIMIT_CORE, &limit)) {
		if (getrlimit(RLIMIT_CORE, &limit))
			_exit(1);
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_CORE, &limit))
			_exit(1);
	}
	if (chdir(directory) || sigaction(SIGABRT, &standard, NULL) || raise(SIGABRT))
		_exit(1);
	_exit(1);
}

/* The file that the kernel left in the directory; the name is its affair. */
static int open_only_file(void)
{
	DIR *all = opendir(directory);
	const struct dirent *entry;
	int fd = -1;

	if (!all)
		return -1;
	while (fd < 0 && (entry = readdir(all)))
		if (entry->d_name[0] != '.')
			fd = openat(dirfd(all), entry->d_name, O_RDONLY | O_CLOEXEC);
	if (closedir(all) && fd >= 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void remove_directory(void)
{
	DIR *all = opendir(directory);
	const struct dirent *entry;

	if (!all)
		return;
	while ((entry = readdir(all)))
		if (entry->d_name[0] != '.' && unlinkat(dirfd(all), entry->d_name, 0))
			break;
	if (closedir(all) || rmdir(directory))
		return;
}

/* Bytes [from, to) of the region, which the file has at `at`. */
static int check_file(struct check *check, int fd, uint64_t from, uint64_t to, uint64_t at)
{
	while (from < to) {
		size_t count = to - from < TEXT_SIZE ? (size_t)(to - from) : TEXT_SIZE;
		ssize_t got = pread(fd, shared->text, count, (off_t)at);

		if (got <= 0)
			return -1;
		check_bytes(check, from, (const unsigned char *)shared->text, (size_t)got);
		from += (uint64_t)got;
		at += (uint64_t)got;
	}
	return 0;
}

/* The segments come in the order of their addresses; what lies between them is missing. */
static int check_core(struct check *check, int fd)
{
	uint64_t base = (uintptr_t)program.regions[check->step->region].base;
	uint64_t at = check->step->offset, end = at + check->step->length;
	uint64_t missing = 0;
	uint64_t count;
	ElfW(Ehdr) head;
	ElfW(Shdr) first;

	if (pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG))
		return -1;
	count = head.e_phnum;
	if (count == PN_XNUM) {
		if (pread(fd, &first, sizeof(first), (off_t)head.e_shoff) != sizeof(first))
			return -1;
		count = first.sh_info;
	}
	for (uint64_t i = 0; i < count && at < end; i++) {
		ElfW(Phdr) part;
		uint64_t from, to;

		if (pread(fd, &part, sizeof(part), (off_t)(head.e_phoff + i * sizeof(part))) !=
		    sizeof(part))
			return -1;
		if (part.p_type != PT_LOAD || part.p_vaddr + part.p_filesz <= base + at ||
		    part.p_vaddr >= base + end)
			continue;
		from = part.p_vaddr > base + at ? part.p_vaddr - base : at;
		to = part.p_vaddr + part.p_filesz < base + end ?
		     part.p_vaddr + part.p_filesz - base : end;
		check_missing(check, at, from - at);
		missing += from - at;
		if (check_file(check, fd, from, to, part.p_offset + (base + from - part.p_vaddr)))
			return -1;
		at = to;
	}
	check_missing(check, at, end - at);
	missing += end - at;
	if (missing)
		detail_set(&check->seen, "%llu bytes are not in the core file",
			   (unsigned long long)missing);
	return 0;
}

static void examine(struct check *check, int status)
{
	int fd = open_only_file();

	if (!WIFSIGNALED(status) || !WCOREDUMP(status) || fd < 0)
		unavailable(check, "the kernel wrote no core file");
	else if (check_core(check, fd))
		unavailable(check, "the core file cannot be read");
	if (fd >= 0 && close(fd))
		unavailable(check, "the core file cannot be closed");
}

void core_read(struct check *check)
{
	struct rb_error error;
	int length, status;
	pid_t child;

	if (!pattern_is_local()) {
		unavailable(check, "kernel.core_pattern sends core files elsewhere");
		return;
	}
	length = snprintf(directory, sizeof(directory), "%s/refbench-core.XXXXXX", options.scratch);
	if (length < 0 || (size_t)length >= sizeof(directory) || !mkdtemp(directory)) {
		unavailable(check, "the scratch directory cannot be written");
		return;
	}
	child = fork_child(&error);
	if (!child && !fork_after(&error))
		dump();
	if (!child)
		_exit(1);
	if (child < 0)
		unavailable(check, error.message);
	else if (waitpid(child, &status, 0) != child)
		unavailable(check, "the child was lost");
	else
		examine(check, status);
	remove_directory();
}
