/* SPDX-License-Identifier: MIT */
/* The protocol: JSON lines, then the end line with the hash of everything before it. */
#include "agent.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static struct sha256 sum;
static bool started;
static size_t used;

int out_flush(void)
{
	size_t done = 0;

	if (!started)
		sha256_start(&sum);
	started = true;
	sha256_add(&sum, shared->out, used);
	while (done < used) {
		ssize_t put = write(STDOUT_FILENO, shared->out + done, used - done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			_exit(1);
		done += (size_t)put;
	}
	used = 0;
	return 0;
}

void out_text(const char *format, ...)
{
	va_list args;
	int got;

	if (used > sizeof(shared->out) / 2)
		out_flush();
	va_start(args, format);
	got = vsnprintf(shared->out + used, sizeof(shared->out) - used, format, args);
	va_end(args);
	if (got > 0 && (size_t)got < sizeof(shared->out) - used)
		used += (size_t)got;
}

/* How many bytes a UTF-8 character has; 0: it is none. */
static int character(const unsigned char *at)
{
	int more = *at < 0x80 ? 0 : *at >= 0xc2 && *at < 0xe0 ? 1 : *at >= 0xe0 && *at < 0xf0 ? 2 :
		   *at >= 0xf0 && *at < 0xf5 ? 3 : -1;

	for (int i = 1; i <= more; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	if ((*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] > 0x9f) ||
	    (*at == 0xf0 && at[1] < 0x90) || (*at == 0xf4 && at[1] > 0x8f))
		return 0;
	return more + 1;
}

void out_string(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	out_text("\"");
	while (*at) {
		int length = character(at);

		if (!length)
			out_text("?");
		else if (*at == '"' || *at == '\\')
			out_text("\\%c", *at);
		else if (*at < 0x20 || *at == 0x7f)
			out_text("\\u%04x", *at);
		else
			out_text("%.*s", length, (const char *)at);
		at += length ? length : 1;
	}
	out_text("\"");
}

int out_end(int rc)
{
	unsigned char digest[32];

	out_flush();
	sha256_end(&sum, digest);
	out_text("end rc=%d sha256=", rc);
	for (int i = 0; i < 32; i++)
		out_text("%02x", digest[i]);
	out_text("\n");
	return out_flush();
}

/* "key=value;key=value" */
static void out_facts(const char *facts)
{
	const char *comma = "";

	while (*facts) {
		size_t length = strcspn(facts, ";");
		size_t key = strcspn(facts, "=");
		char name[64], value[192];

		if (key < length && key < sizeof(name) && length - key - 1 < sizeof(value)) {
			memcpy(name, facts, key);
			name[key] = '\0';
			memcpy(value, facts + key + 1, length - key - 1);
			value[length - key - 1] = '\0';
			out_text("%s", comma);
			out_string(name);
			out_text(":");
			out_string(value);
			comma = ",";
		}
		facts += length + (facts[length] == ';');
	}
}

void out_agent(const char *facts)
{
	struct utsname name;
	int cpu = sched_getcpu();

	if (uname(&name))
		memset(&name, 0, sizeof(name));
	out_text("{\"type\":\"agent\",\"version\":\"%s\",\"arch\":\"%s\",\"page_size\":%zu,\"kernel\":",
		 AGENT_VERSION, strcmp(name.machine, "aarch64") ? name.machine : "arm64",
		 context.page_size);
	out_string(name.release);
	out_text(",\"cpu\":%d,\"facts\":{", cpu);
	out_facts(facts);
	out_text("}}\n");
}

static void out_phase(const char *name, const struct phase_total *t)
{
	out_text("\"%s\":{\"ns\":%llu,\"user_ns\":%llu,\"system_ns\":%llu,\"minor_faults\":%llu,",
		 name, (unsigned long long)t->ns, (unsigned long long)t->user_ns,
		 (unsigned long long)t->system_ns, (unsigned long long)t->minor_faults);
	out_text("\"major_faults\":%llu,\"syscalls\":%llu,\"sigbus\":%llu,\"sigsegv\":%llu,",
		 (unsigned long long)t->major_faults, (unsigned long long)t->syscalls,
		 (unsigned long long)t->sigbus, (unsigned long long)t->sigsegv);
	out_text("\"uffd_messages\":%llu,\"entries\":%llu}", (unsigned long long)t->uffd_messages,
		 (unsigned long long)t->entries);
}

static void out_snapshot(const char *name, const struct snapshot *snap)
{
	out_text("\"%s\":{", name);
	for (int i = 0; i < MEMORY_FIELDS; i++) {
		out_text("%s\"%s\":", i ? "," : "", memory_names[i]);
		if (snap->field[i] < 0)
			out_text("null");
		else
			out_text("%lld", (long long)snap->field[i]);
	}
	out_text("%s}", snap->executed ? ",\"executed\":true" : "");
}

static void out_observation(const struct observation *seen)
{
	out_text("{\"line\":%u,\"step\":\"%s\",\"ok\":%s,\"errno\":%d,\"errors\":%llu,", seen->line,
		 verb_names[seen->verb], seen->ok ? "true" : "false", seen->err,
		 (unsigned long long)seen->errors);
	out_text("\"offset\":%llu,\"got\":%u,\"wanted\":%u,\"detail\":",
		 (unsigned long long)seen->offset, seen->got, seen->wanted);
	out_string(seen->detail);
	out_text("}");
}

void out_sample(void)
{
	unsigned int seen = atomic_load(&shared->observed);
	const char *comma = "";

	out_text("{\"type\":\"sample\",\"index\":%llu,\"phases\":{",
		 (unsigned long long)sample_index);
	for (int i = 0; i < program.phase_count; i++) {
		if (!shared->phases[i].entries)
			continue;
		out_text("%s", comma);
		out_phase(program.phases[i], &shared->phases[i]);
		comma = ",";
	}
	out_text("},\"memory\":{");
	comma = "";
	for (int i = 0; i < program.label_count; i++) {
		if (!shared->memory[i].taken)
			continue;
		out_text("%s", comma);
		out_snapshot(program.labels[i], &shared->memory[i]);
		comma = ",";
	}
	out_text("},\"observations\":[");
	for (unsigned int i = 0; i < seen && i < observation_slots; i++) {
		out_text("%s", i ? "," : "");
		out_observation(&observations[i]);
	}
	out_text("]");
	execute_out();
	out_text("}\n");
}

static const char *kind_name(enum rb_failure kind)
{
	switch (kind) {
	case RB_LIMIT_HIT:
		return "limit-hit";
	case RB_WRONG_CONTENT:
		return "wrong-content";
	case RB_USAGE:
		return "usage";
	case RB_CRASHED:
		return "crashed";
	default:
		return "unsupported";
	}
}

/* Lines of text as strings. */
static void out_log(const char *text)
{
	char line[256];

	out_text(",\"log\":[");
	for (bool first = true; *text; first = false) {
		size_t length = strcspn(text, "\n");
		size_t shown = length < sizeof(line) ? length : sizeof(line) - 1;

		memcpy(line, text, shown);
		line[shown] = '\0';
		out_text(first ? "" : ",");
		out_string(line);
		text += length + (text[length] == '\n');
	}
	out_text("]");
}

void out_failure(const struct rb_error *error)
{
	out_text("{\"type\":\"failure\",\"kind\":\"%s\",\"message\":", kind_name(error->kind));
	out_string(error->message);
	out_text(",\"remedy\":");
	out_string(error->remedy);
	out_text(",\"wanted\":%llu,\"limit\":%llu", (unsigned long long)error->wanted,
		 (unsigned long long)error->limit);
	if (*execute_log())
		out_log(execute_log());
	out_text("}\n");
}

void out_mechanism(const char *name, const struct rb_error *error)
{
	out_text("{\"type\":\"mechanism\",\"name\":");
	out_string(name);
	out_text(",\"ok\":%s,\"reason\":", error->kind == RB_OK ? "true" : "false");
	out_string(error->message);
	out_text(",\"remedy\":");
	out_string(error->remedy);
	out_text("}\n");
}
