/* SPDX-License-Identifier: MIT */
#ifndef REFBENCH_LAUNCHER_H
#define REFBENCH_LAUNCHER_H

#include <stdbool.h>

/* main.c: a message to the other side; note() says errno of a setting that was refused. */
void say(const char *what, const char *detail, int number);
void note(const char *what);

/* settings.c: everything that the agents inherit, from the words of the command line. */
void settings_make(int count, char **words);
bool write_file(const char *path, const char *text);

#endif
