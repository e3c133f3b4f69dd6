/* SPDX-License-Identifier: MIT */
/* Writes its first argument to the kernel's log: say '<2>BUG: ...'. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = open("/dev/kmsg", O_WRONLY);

	if (argc != 2 || fd < 0)
		return 2;
	return write(fd, argv[1], strlen(argv[1])) < 0;
}
