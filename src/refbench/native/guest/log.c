/* SPDX-License-Identifier: MIT */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void log_failure(const char *what)
{
	char line[256];
	/* <3> is an error, which a quiet kernel shows as well. */
	int length = snprintf(line, sizeof(line), "<3>refbench: %s: %s\n", what, strerror(errno));
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || length < 0)
		return;
	if (write(fd, line, strlen(line)) < 0)
		(void)!write(STDERR_FILENO, line, strlen(line));
	close(fd);
}
