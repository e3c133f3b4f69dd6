/* SPDX-License-Identifier: MIT */
/* The virtio port: buffered both ways, so that nothing is sent while a program is measured. */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"
#define IN_SIZE 65536
#define OUT_SIZE (1 << 20)
#define LOOKS 1000	/* for the port, 10 ms apart */

static int port = -1;
static bool awake;
static char *in, *out;
static size_t in_at, in_end, out_end;

static bool has_name(const char *entry, const char *name)
{
	char path[512], text[128];
	ssize_t got;
	int fd;

	if (snprintf(path, sizeof(path), PORTS "/%s/name", entry) >= (int)sizeof(path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got <= 0)
		return false;
	text[got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return !strcmp(text, name);
}

static int find(const char *name)
{
	DIR *ports = opendir(PORTS);
	const struct dirent *entry;
	char path[512];
	int fd = -1;

	if (!ports)
		return -1;
	while (fd < 0 && (entry = readdir(ports))) {
		if (entry->d_name[0] == '.' || !has_name(entry->d_name, name))
			continue;
		if (snprintf(path, sizeof(path), "/dev/%s", entry->d_name) < (int)sizeof(path))
			fd = open(path, O_RDWR | O_CLOEXEC | (awake ? O_NONBLOCK : 0));
	}
	closedir(ports);
	return fd;
}

/* Touched now, and not copied to the launcher: no fault of ours falls into a measured run. */
static char *buffer_new(size_t size)
{
	char *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (buffer == MAP_FAILED || madvise(buffer, size, MADV_DONTFORK))
		return NULL;
	return buffer;
}

/* With stay_awake, waiting for the host keeps the CPU busy; see main.c. */
int port_open(const char *name, bool stay_awake)
{
	const struct timespec pause = { .tv_nsec = 10000000 };

	awake = stay_awake;
	in = buffer_new(IN_SIZE);
	out = buffer_new(OUT_SIZE);
	if (!in || !out)
		return -1;
	for (int look = 0; look < LOOKS; look++) {
		port = find(name);
		if (port >= 0)
			return 0;
		nanosleep(&pause, NULL);
	}
	errno = ENODEV;
	return -1;
}

int port_fd(void)
{
	return port;
}

/* Milliseconds for poll(2). */
int port_patience(void)
{
	return awake || in_at < in_end ? 0 : -1;
}

bool port_pending(void)
{
	return in_at < in_end;
}

static int fill(void)
{
	ssize_t got;

	do
		got = read(port, in, IN_SIZE);
	while (got < 0 && (errno == EINTR || errno == EAGAIN));
	if (got <= 0) {
		errno = got ? errno : EPIPE;
		return -1;
	}
	in_at = 0;
	in_end = (size_t)got;
	return 0;
}

/* A line without its end, cut to size; -1 when the host has gone. */
ssize_t port_line(char *line, size_t size)
{
	size_t length = 0;

	for (;;) {
		char c;

		if (in_at == in_end && fill())
			return -1;
		c = in[in_at++];
		if (c == '\n')
			break;
		if (length + 1 < size)
			line[length++] = c;
	}
	line[length] = '\0';
	return (ssize_t)length;
}

int port_take(void *data, size_t size)
{
	char *at = data;

	while (size) {
		size_t here;

		if (in_at == in_end && fill())
			return -1;
		here = in_end - in_at < size ? in_end - in_at : size;
		memcpy(at, in + in_at, here);
		in_at += here;
		at += here;
		size -= here;
	}
	return 0;
}

int port_skip(size_t size)
{
	while (size) {
		size_t here;

		if (in_at == in_end && fill())
			return -1;
		here = in_end - in_at < size ? in_end - in_at : size;
		in_at += here;
		size -= here;
	}
	return 0;
}

int port_flush(void)
{
	size_t at = 0;

	while (at < out_end) {
		ssize_t written = write(port, out + at, out_end - at);

		if (written < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (written < 0)
			return -1;
		at += (size_t)written;
	}
	out_end = 0;
	return 0;
}

int port_put(const void *data, size_t size)
{
	const char *at = data;

	while (size) {
		size_t here = OUT_SIZE - out_end < size ? OUT_SIZE - out_end : size;

		memcpy(out + out_end, at, here);
		out_end += here;
		at += here;
		size -= here;
		if (out_end == OUT_SIZE && port_flush())
			return -1;
	}
	return 0;
}

int port_putf(const char *format, ...)
{
	char text[256];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= sizeof(text))
		return -1;
	return port_put(text, (size_t)length);
}
