/* SPDX-License-Identifier: MIT */
/* What a userland needs before the first agent: file systems and a cgroup for the agents. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLAGS (MS_NOSUID | MS_NODEV)

static const struct mount_point {
	const char *kind;
	const char *place;
	unsigned long flags;
	const char *options;
	bool needed;
} mount_points[] = {
	{ "devtmpfs", "/dev", MS_NOSUID, NULL, true },
	{ "proc", "/proc", FLAGS, NULL, true },
	{ "sysfs", "/sys", FLAGS, NULL, true },
	{ "tmpfs", "/tmp", FLAGS, "mode=1777,size=100%", true },
	{ "cgroup2", "/sys/fs/cgroup", FLAGS, NULL, false },
	{ "debugfs", "/sys/kernel/debug", FLAGS, NULL, false },
};

static const struct setting {
	const char *path;
	const char *text;
} settings[] = {
	{ "/proc/sys/kernel/core_pattern", "core" },
	{ "/proc/sys/kernel/printk_devkmsg", "on\n" },
	{ "/proc/sys/vm/unprivileged_userfaultfd", "1" },
	{ "/sys/fs/cgroup/cgroup.subtree_control", "+memory" },
};

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written;

	if (fd < 0)
		return -1;
	written = write(fd, text, strlen(text));
	return close(fd) || written < 0 ? -1 : 0;
}

/* The kernel opens them for its init where /dev/console is in the initial file system. */
static int open_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	return fd < 0 ? -1 : close(fd);
}

int mounts_make(void)
{
	for (size_t i = 0; i < sizeof(mount_points) / sizeof(mount_points[0]); i++) {
		const struct mount_point *m = &mount_points[i];

		if (mkdir(m->place, 0755) && errno != EEXIST && m->needed)
			return -1;
		if (mount(m->kind, m->place, m->kind, m->flags, m->options) && errno != EBUSY &&
		    m->needed)
			return -1;
	}
	/* A kernel may lack any of these; the session sees what is there and says so. */
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		(void)write_text(settings[i].path, settings[i].text);
	(void)mkdir(AGENTS_CGROUP, 0755);
	if (mkdir(SCRATCH, 0755))
		return -1;
	return open_standard();
}
