/* SPDX-License-Identifier: MIT */
#ifndef REFBENCH_GUEST_H
#define REFBENCH_GUEST_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define GUEST_PROTOCOL 1
#define AGENTS_CGROUP "/sys/fs/cgroup/agents"
#define SCRATCH "/tmp/scratch"	/* in memory, unless the host asks for a disk there */

/* mounts.c: the file systems, and the cgroup that agents run in. */
int mounts_make(void);

/* log.c: errno and what met it, for the kernel log: the host reads it on the console. */
void log_failure(const char *what);

/* port.c: the byte stream to the host. What is put goes out with the next port_flush(). */
int port_open(const char *name, bool stay_awake);
int port_fd(void);
bool port_pending(void);
int port_patience(void);
ssize_t port_line(char *line, size_t size);
int port_take(void *data, size_t size);
int port_skip(size_t size);
int port_putf(const char *format, ...) __attribute__((format(printf, 1, 2)));
int port_put(const void *data, size_t size);
int port_flush(void);

/* files.c: the requests about files, disks and modules. Each sends its answer. */
int files_put(const char *path, mode_t mode, size_t size);
int files_write(const char *path, size_t size);
int files_read(const char *path);
int files_module(const char *path, size_t size);
int files_swap(const char *path);
int files_mount(const char *kind, const char *device, const char *place);
int answer(const char *what, bool done);

/* runner.c: the launcher, and the one program that it may be running for us. */
int runner_start(void);
int runner_yield(void);
long runner_alignment(void);
bool runner_busy(void);
int runner_run(size_t size);
int runner_kill(void);
size_t runner_watch(struct pollfd *watched);
int runner_events(const struct pollfd *watched, size_t count);

#endif
