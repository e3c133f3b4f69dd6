/* SPDX-License-Identifier: MIT */
/*
 * `execute`: a real program under the loader that was brought for it. Its time and faults go to
 * the phase that the step stands in, its memory at its end to the label `exit`, and the lines
 * `NAME NUMBER` that it writes to descriptor 3 to the sample's values.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_VALUES 4096
#define VALUE_NAME 64
#define VALUES_BYTES (1u << 20)
#define LOG_BYTES 4096
#define LOG_LINES 20
#define SHOWN 120

struct value {
	char name[VALUE_NAME];
	uint64_t number;
};

static struct value *values;
static size_t value_count;
static char log_text[2 * LOG_BYTES + 1];	/* of its standard error, the end */
static size_t log_used;
static char *environment[2 * MAX_VARIABLES + 1];
static char *text;	/* what it reported */

static bool is_set(const char *variable, const struct outside *by)
{
	size_t length = strcspn(variable, "=") + 1;

	for (size_t i = 0; i < by->variable_count; i++)
		if (!strncmp(by->environment[i], variable, length))
			return true;
	return false;
}

/* Ours, and over it what the session says. */
int execute_prepare(struct rb_error *error)
{
	size_t count = 0;

	if (!program.words)
		return 0;
	values = area_new(MAX_VALUES * sizeof(*values), false);
	text = area_new(VALUES_BYTES + 1, false);
	if (!values || !text)
		return rb_fail(error, RB_UNSUPPORTED, errno, "", "There is no memory for values.");
	for (char **at = environ; *at && count < MAX_VARIABLES; at++)
		if (!is_set(*at, &options.outside))
			environment[count++] = *at;
	for (size_t i = 0; i < options.outside.variable_count; i++)
		environment[count++] = (char *)options.outside.environment[i];
	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		return rb_fail(error, RB_UNSUPPORTED, errno, "", "prctl failed: %s.",
			       strerror(errno));
	return 0;
}

void execute_forget(void)
{
	value_count = 0;
}

/* The last bytes are kept, twice as many at most. */
static void heard(const char *said, size_t size)
{
	if (log_used + size > 2 * LOG_BYTES) {
		memmove(log_text, log_text + log_used - LOG_BYTES, LOG_BYTES);
		log_used = LOG_BYTES;
	}
	memcpy(log_text + log_used, said, size);
	log_used += size;
	log_text[log_used] = '\0';
}

/* The last lines of its standard error. */
const char *execute_log(void)
{
	const char *at = log_text + log_used;
	int lines = 0;

	while (at > log_text && (at[-1] != '\n' || at == log_text + log_used ||
				 lines++ < LOG_LINES - 1))
		at--;
	return at;
}

static void at_exit(pid_t pid)
{
	memory_measure(program.exit_label, pid);
}

/* The loader, what goes before the program's own libraries, the program and its words. */
static char **command_of(const struct step *s)
{
	static char *argv[MAX_WORDS + 5];
	static char preload[] = "--preload";
	const struct outside *o = &options.outside;
	size_t count = 0;

	if (o->loader) {
		argv[count++] = (char *)o->loader;
		if (o->libraries && *o->libraries) {
			argv[count++] = preload;
			argv[count++] = (char *)o->libraries;
		}
	}
	memcpy(argv + count, program.words + s->offset, s->count * sizeof(*argv));
	argv[count + s->count] = NULL;
	return argv;
}

static const char *name_of(const struct step *s)
{
	const char *place = program.words[s->offset];

	for (size_t i = 0; i < options.outside.file_count; i++) {
		const char *file = options.outside.files[i];
		size_t length = strcspn(file, "=");
		static char name[VALUE_NAME];

		if (file + length + 1 == place && length < sizeof(name)) {
			memcpy(name, file, length);
			name[length] = '\0';
			return name;
		}
	}
	return place;
}

static int fail_values(const struct step *s, const char *what, const char *line)
{
	struct rb_error error;

	rb_fail(&error, RB_USAGE, 0, "Descriptor 3 takes lines NAME NUMBER, a megabyte at most.",
		"Line %u: %.60s wrote to descriptor 3 %s: '%.40s'.", s->line, name_of(s), what,
		line);
	return run_stop(&error);
}

/* A name met again keeps the latest number. */
static struct value *slot_of(const char *name)
{
	struct value *v = values;

	while (v < values + value_count && strcmp(v->name, name))
		v++;
	if (v == values + MAX_VALUES)
		return NULL;
	if (v == values + value_count) {
		strcpy(v->name, name);
		value_count++;
	}
	return v;
}

static int take_line(const struct step *s, char *line)
{
	struct rb_error ignored;
	struct parser p = { .source = "", .error = &ignored };
	size_t length = strcspn(line, " ");
	struct value *v;

	if (!length || length >= VALUE_NAME || !line[length] || line[0] < 'a' || line[0] > 'z' ||
	    strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789-") != length)
		return fail_values(s, "what is no value", line);
	line[length] = '\0';
	v = slot_of(line);
	if (!v)
		return fail_values(s, "too many values", line);
	if (parse_number(&p, line + length + 1, 0, UINT64_MAX, &v->number))
		return fail_values(s, "what is no number", line + length + 1);
	return 0;
}

/* What it wrote ends where the descriptor stands that we share with it. */
static int take_values(const struct step *s, int fd)
{
	off_t size = lseek(fd, 0, SEEK_CUR);
	char *next, *line;

	if (size < 0 || size > (off_t)VALUES_BYTES)
		return fail_values(s, "too much", "");
	if (pread(fd, text, (size_t)size, 0) != (ssize_t)size)
		return fail_values(s, "what cannot be read", strerror(errno));
	text[size] = '\0';
	for (line = text; *line; line = next) {
		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		else
			return fail_values(s, "a line without an end", line);
		if (take_line(s, line))
			return -1;
	}
	return 0;
}

/* 0: it ended well. */
static int judge(const struct step *s, const struct child *child)
{
	const char *last = execute_log(), *name = name_of(s);
	char shown[SHOWN + 4] = "";
	struct rb_error error;

	for (const char *at = last; *at; at += strcspn(at, "\n") + 1) {
		last = at;
		if (!at[strcspn(at, "\n")])
			break;
	}
	if (*last)
		(void)snprintf(shown, sizeof(shown), ": %.*s",
			       (int)(strcspn(last, "\n") < SHOWN ? strcspn(last, "\n") : SHOWN), last);
	if (child->failed && !strcmp(child->what, "ptrace"))
		rb_fail(&error, RB_UNSUPPORTED, child->failed,
			"Allow it: sysctl kernel.yama.ptrace_scope=1, a container without a filter.",
			"Line %u: %.60s cannot be followed: ptrace: %s.", s->line, name,
			strerror(child->failed));
	else if (child->failed)
		rb_fail(&error, RB_UNSUPPORTED, child->failed,
			"Check that it is a program for this machine.",
			"Line %u: %.60s cannot be executed: %s: %s.", s->line, name, child->what,
			strerror(child->failed));
	else if (WIFSIGNALED(child->status) && WTERMSIG(child->status) == SIGKILL)
		rb_fail(&error, RB_LIMIT_HIT, 0, "Give it more memory, or less to do.",
			"Line %u: %.60s was killed, as for lack of memory%s.", s->line, name, shown);
	else if (WIFSIGNALED(child->status))
		rb_fail(&error, RB_CRASHED, 0, "Its standard error is kept with the run.",
			"Line %u: %.60s was ended by signal %d (%s)%s.", s->line, name,
			WTERMSIG(child->status), strsignal(WTERMSIG(child->status)), shown);
	else if (WEXITSTATUS(child->status))
		rb_fail(&error, RB_CRASHED, 0, "Its standard error is kept with the run.",
			"Line %u: %.60s ended with status %d%s.", s->line, name,
			WEXITSTATUS(child->status), shown);
	else
		return 0;
	return run_stop(&error);
}

static uint64_t ns_of(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

static void count(int phase, const struct child *child)
{
	struct phase_total *t = &shared->phases[phase];

	t->ns += child->ns;
	t->user_ns += ns_of(child->usage.ru_utime);
	t->system_ns += ns_of(child->usage.ru_stime);
	t->minor_faults += (uint64_t)child->usage.ru_minflt;
	t->major_faults += (uint64_t)child->usage.ru_majflt;
}

static int run(const struct step *s, int phase)
{
	struct child child = { .argv = command_of(s) };
	struct rb_error error;
	int fd = memfd_create("values", MFD_CLOEXEC);
	int rc;

	child.values = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 4);
	if (child.values < 0)
		return fail_values(s, "nothing, because there is no memfd", strerror(errno));
	log_used = 0;
	log_text[0] = '\0';
	rc = child_run(&child, environment, at_exit, heard, &error) ? run_stop(&error) :
	     judge(s, &child) || take_values(s, fd) ? -1 : 0;
	if (close(fd) || close(child.values))
		_exit(1);
	if (rc)
		return -1;
	log_used = 0;
	log_text[0] = '\0';
	if (phase >= 0)
		count(phase, &child);
	return 0;
}

int execute_run(const struct step *s)
{
	int phase = phase_stop();
	int rc = run(s, phase);

	phase_go(phase);
	return rc;
}

void execute_out(void)
{
	if (!value_count)
		return;
	out_text(",\"values\":{");
	for (size_t i = 0; i < value_count; i++)
		out_text("%s\"%s\":%llu", i ? "," : "", values[i].name,
			 (unsigned long long)values[i].number);
	out_text("}");
}
