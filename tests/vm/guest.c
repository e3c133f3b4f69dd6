/* SPDX-License-Identifier: MIT */
/*
 * The first process of the guests of these tests. It obeys single letters from the virtio port and
 * answers each with a line; what the kernel has to say about it goes to the console.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (4UL << 20)
#define STEPS 40
#define STEP_TURNS 2000000

static void say(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) < 0)
		_exit(3);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("%s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static int64_t now_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now))
		_exit(4);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* A child that takes memory until the kernel ends it. */
static void eat(const char *group)
{
	pid_t child = fork();

	if (child == 0) {
		if (group)
			put(group, "0");
		for (;;) {
			char *place = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (place == MAP_FAILED)
				_exit(5);
			memset(place, 1, CHUNK);
		}
	}
	if (child > 0)
		waitpid(child, NULL, 0);
}

static void eat_in_cgroup(void)
{
	mkdir("/cg", 0755);
	mount("cgroup", "/cg", "cgroup2", 0, NULL);
	put("/cg/cgroup.subtree_control", "+memory");
	mkdir("/cg/small", 0755);
	put("/cg/small/memory.max", "16M");
	eat("/cg/small/cgroup.procs");
}

static void plant(int port)
{
	int file = open("/faults.ko", O_RDONLY | O_CLOEXEC);
	char name[32] = "";
	pid_t child;

	for (size_t i = 0; i + 1 < sizeof(name); i++)
		if (read(port, name + i, 1) != 1 || name[i] == '\n') {
			name[i] = '\0';
			break;
		}
	if (syscall(SYS_finit_module, file, "", 0) && errno != EEXIST)
		printf("faults.ko: %s\n", strerror(errno));
	if (file >= 0)
		close(file);
	child = fork();
	if (child == 0) {
		put("/dev/refbench_faults", name);
		_exit(0);
	}
	if (child > 0)
		waitpid(child, NULL, 0);
}

/* The guest's own clock, on the console, at moments that the guest alone decides. */
static void count(void)
{
	for (int i = 0; i < STEPS; i++) {
		for (volatile int turn = 0; turn < STEP_TURNS; turn++)
			;
		printf("step %lld\n", (long long)now_ns());
	}
}

static void obey(int port, char letter)
{
	char text[64];

	switch (letter) {
	case 't':
		break;
	case 'c':
		count();
		break;
	case 'h':
		for (;;)
			pause();
	case 'm':
		eat_in_cgroup();
		break;
	case 'o':
		eat(NULL);
		break;
	case 'p':
		plant(port);
		break;
	case 'q':
		reboot(RB_AUTOBOOT);
		break;
	case 'x':
		exit(1);
	default:
		return;
	}
	snprintf(text, sizeof(text), "%c %lld\n", letter, (long long)now_ns());
	say(port, text);
}

int main(void)
{
	char letter;
	int port;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mkdir("/dev", 0755);
	mkdir("/proc", 0555);
	mkdir("/sys", 0555);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL))
		printf("devtmpfs: %s\n", strerror(errno));
	/* Quiet while it boots; whole reports afterwards. */
	put("/proc/sys/kernel/printk", "8");
	put("/proc/sys/kernel/watchdog_thresh", "1");
	put("/proc/sys/kernel/hung_task_timeout_secs", "1");
	port = open("/dev/vport0p1", O_RDWR | O_CLOEXEC);
	printf("guest up at %lld, port %s\n", (long long)now_ns(), port < 0 ? "missing" : "open");
	if (port < 0)
		for (;;)
			pause();
	say(port, "ready\n");
	while (read(port, &letter, 1) == 1)
		obey(port, letter);
	return 0;
}
