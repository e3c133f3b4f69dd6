/* SPDX-License-Identifier: MIT */
/* Memory snapshots, taken while the clock stands. What cannot be read is -1, never 0. */
#include "agent.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *const memory_names[MEMORY_FIELDS] = {
	"rss", "rss_anon", "rss_file", "rss_shmem", "hwm", "pte", "vmas", "pss", "uss", "swap",
	"ksm", "held", "sys_shmem", "sys_slab", "sys_pagetables", "sys_available",
	"cgroup_current", "cgroup_peak", "cgroup_anon", "cgroup_file", "cgroup_shmem",
	"cgroup_kernel", "cgroup_pagetables", "cgroup_slab",
};

/* Which line of a file fills which field; `to` -1 ends a table. */
struct source {
	const char *key;
	int to;
};

static const struct source of_status[] = {
	{ "VmRSS:", M_RSS }, { "RssAnon:", M_RSS_ANON }, { "RssFile:", M_RSS_FILE },
	{ "RssShmem:", M_RSS_SHMEM }, { "VmHWM:", M_HWM }, { "VmPTE:", M_PTE },
	{ "VmSwap:", M_SWAP }, { NULL, -1 },
};
static const struct source of_meminfo[] = {
	{ "Shmem:", M_SYS_SHMEM }, { "SUnreclaim:", M_SYS_SLAB },
	{ "PageTables:", M_SYS_PAGETABLES }, { "MemAvailable:", M_SYS_AVAILABLE }, { NULL, -1 },
};
/* In version 1 `cache` holds shmem too, as `file` does in version 2. */
static const struct source of_stat_v1[] = {
	{ "rss ", M_CGROUP_ANON }, { "cache ", M_CGROUP_FILE }, { "shmem ", M_CGROUP_SHMEM },
	{ NULL, -1 },
};
static const struct source of_stat_v2[] = {
	{ "anon ", M_CGROUP_ANON }, { "file ", M_CGROUP_FILE }, { "shmem ", M_CGROUP_SHMEM },
	{ "kernel ", M_CGROUP_KERNEL }, { "pagetables ", M_CGROUP_PAGETABLES },
	{ "slab ", M_CGROUP_SLAB }, { NULL, -1 },
};

static int peak_fd = -1;	/* version 2 keeps a peak for each open descriptor, from 6.12 on */
static bool peak_known;

/* The file's text in shared->text. -1: it cannot be read. */
static int load(int fd)
{
	size_t used = 0;
	ssize_t got;

	if (fd < 0)
		return -1;
	while ((got = read(fd, shared->text + used, TEXT_SIZE - 1 - used)) > 0)
		used += (size_t)got;
	shared->text[used] = '\0';
	return close(fd) || got < 0 || !used ? -1 : 0;
}

/* The number behind a key at the start of a line of shared->text; -1 without one. */
static int64_t number_after(const char *key)
{
	const char *line = shared->text;
	size_t length = strlen(key);
	long long value;

	while (line && strncmp(line, key, length)) {
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return line && sscanf(line + length, "%lld", &value) == 1 ? value : -1;
}

static void take(struct snapshot *snap, int fd, const struct source *from, int64_t unit)
{
	if (load(fd))
		return;
	for (; from->key; from++) {
		int64_t value = number_after(from->key);

		snap->field[from->to] = value < 0 ? -1 : value * unit;
	}
}

static int open_read(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int open_cgroup(const char *file, int flags)
{
	char path[512];
	int length = snprintf(path, sizeof(path), "%s/%s", options.cgroup_dir, file);

	if (length < 0 || (size_t)length >= sizeof(path))
		return -1;
	return open(path, flags | O_CLOEXEC);
}

static int64_t cgroup_number(const char *file)
{
	return load(open_cgroup(file, O_RDONLY)) ? -1 : number_after("");
}

/* A file of the process; 0: of this one. */
static int open_of(pid_t of, const char *file)
{
	char path[64];

	if (of)
		(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)of, file);
	else
		(void)snprintf(path, sizeof(path), "/proc/self/%s", file);
	return open_read(path);
}

/* Lines of its maps; -1 when they cannot be read. */
static int64_t count_vmas(pid_t of)
{
	int fd = open_of(of, "maps");
	int64_t lines = 0;
	ssize_t got;

	if (fd < 0)
		return -1;
	while ((got = read(fd, shared->text, TEXT_SIZE)) > 0)
		for (ssize_t i = 0; i < got; i++)
			lines += shared->text[i] == '\n';
	return close(fd) || got < 0 ? -1 : lines;
}

static void take_rollup(struct snapshot *snap, pid_t of)
{
	int64_t clean, dirty, huge, merged;

	if (load(open_of(of, "smaps_rollup")))
		return;
	snap->field[M_PSS] = number_after("Pss:");
	if (snap->field[M_PSS] >= 0)
		snap->field[M_PSS] *= 1024;
	clean = number_after("Private_Clean:");
	dirty = number_after("Private_Dirty:");
	huge = number_after("Private_Hugetlb:");
	merged = number_after("KSM:");
	if (merged >= 0)
		snap->field[M_KSM] = merged * 1024;
	if (clean >= 0 && dirty >= 0)
		snap->field[M_USS] = (clean + dirty + (huge > 0 ? huge : 0)) * 1024;
}

static int64_t peak_v2(void)
{
	ssize_t got;

	if (!peak_known)
		return -1;
	got = pread(peak_fd, shared->text, TEXT_SIZE - 1, 0);
	if (got <= 0)
		return -1;
	shared->text[got] = '\0';
	return number_after("");
}

static void take_cgroup(struct snapshot *snap)
{
	if (options.cgroup == 1) {
		take(snap, open_cgroup("memory.stat", O_RDONLY), of_stat_v1, 1);
		snap->field[M_CGROUP_CURRENT] = cgroup_number("memory.usage_in_bytes");
		snap->field[M_CGROUP_KERNEL] = cgroup_number("memory.kmem.usage_in_bytes");
		if (peak_known)
			snap->field[M_CGROUP_PEAK] = cgroup_number("memory.max_usage_in_bytes");
	} else if (options.cgroup == 2) {
		take(snap, open_cgroup("memory.stat", O_RDONLY), of_stat_v2, 1);
		snap->field[M_CGROUP_CURRENT] = cgroup_number("memory.current");
		snap->field[M_CGROUP_PEAK] = peak_v2();
	}
}

void memory_measure(int label, pid_t of)
{
	struct snapshot *snap = &shared->memory[label];
	int64_t merged;

	for (int i = 0; i < MEMORY_FIELDS; i++)
		snap->field[i] = -1;
	/* The process last: what reading the others costs the kernel is not its own. */
	take_cgroup(snap);
	take(snap, open_read("/proc/meminfo"), of_meminfo, 1024);
	take(snap, open_of(of, "status"), of_status, 1024);
	take_rollup(snap, of);
	/* Before Linux 6.7, which counts what is no longer mapped until KSM comes by. */
	merged = snap->field[M_KSM] >= 0 ? -1 :
		 load(open_of(of, "ksm_merging_pages")) ? -1 : number_after("");
	if (merged >= 0)
		snap->field[M_KSM] = merged * (int64_t)context.page_size;
	snap->field[M_VMAS] = of ? count_vmas(of) : rb_count_vmas();
	snap->field[M_HELD] = mechanism->held && !of ? (int64_t)mechanism->held(&context) : 0;
	/* These are never absent in refbench.samples. */
	for (int i = M_RSS; i <= M_VMAS; i++)
		if (snap->field[i] < 0)
			snap->field[i] = 0;
	snap->executed = of;
	snap->taken = true;
}

static int put(int fd, const char *text, bool keep)
{
	ssize_t length = (ssize_t)strlen(text);
	ssize_t done;

	if (fd < 0)
		return -1;
	done = write(fd, text, (size_t)length);
	if (!keep && close(fd))
		return -1;
	return done == length ? 0 : -1;
}

/* Forget the high-water marks. A cgroup's that cannot be reset is not reported. */
int memory_start(void)
{
	if (options.cgroup == 1) {
		peak_known = !put(open_cgroup("memory.max_usage_in_bytes", O_WRONLY), "0", false);
	} else if (options.cgroup == 2) {
		if (peak_fd < 0)
			peak_fd = open_cgroup("memory.peak", O_RDWR);
		peak_known = !put(peak_fd, "reset\n", true);
	}
	return put(open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC), "5", false);
}
