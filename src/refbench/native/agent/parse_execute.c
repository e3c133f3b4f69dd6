/* SPDX-License-Identifier: MIT */
/*
 * `execute FILE ARG...` and the lines of the head that belong to it. A word has white space, `#`
 * and `%` as `%` and two digits; `@NAME` stands for the place of a file on this machine.
 */
#include "agent.h"

#include <string.h>

static char *pool;	/* the words' text: never more than the program's */
static uint64_t used;	/* pointers of program.words */

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The word that `from` spells, into the pool. NULL: it is broken. */
static char *decode(const char *from)
{
	char *word = pool;

	if (!strcmp(from, "%00"))
		from = "";
	for (; *from; from++) {
		int byte = *from;

		if (byte == '%') {
			int high = digit(from[1]);
			int low = high < 0 ? -1 : digit(from[2]);

			byte = low < 0 ? 0 : high * 16 + low;
			if (!byte)
				return NULL;
			from += 2;
		}
		*pool++ = (char)byte;
	}
	*pool++ = '\0';
	return word;
}

/* The place of the file of that name, which the session brought. */
static int find(struct parser *p, const char *name, char **place)
{
	size_t length = strlen(name);

	for (size_t i = 0; i < options.outside.file_count; i++) {
		const char *file = options.outside.files[i];

		if (!strncmp(file, name, length) && file[length] == '=') {
			*place = (char *)file + length + 1;
			return 0;
		}
	}
	return parse_fail(p, "the file '%.40s' was not brought; --file %.40s=PLACE says where it is",
			  name, name);
}

static int make_room(struct parser *p)
{
	if (program.words)
		return 0;
	pool = area_new(p->size + 1, false);
	/* Of each word at least one character and what parts it from the next. */
	program.words = area_new((p->size / 2 + 1) * sizeof(*program.words), false);
	if (!pool || !program.words)
		return parse_fail(p, "there is no memory for its arguments");
	return parse_label(p, "exit", &program.exit_label);
}

/* FILE, then its arguments: s->count words from s->offset on. */
int parse_execute(struct parser *p, struct step *s)
{
	if (p->in_threads || p->in_fork)
		return parse_fail(p, "no 'execute' inside fork or threads");
	if (p->count < 2 || p->count == MAX_WORDS)
		return parse_fail(p, "execute needs a file and at most %d arguments", MAX_WORDS - 3);
	if (make_room(p))
		return -1;
	s->offset = used;
	s->count = (uint64_t)p->count - 1;
	for (int i = 1; i < p->count; i++) {
		char **word = &program.words[used++];
		bool place = i == 1 || p->words[i][0] == '@';

		if (place && find(p, p->words[i] + (i > 1), word))
			return -1;
		if (!place && !(*word = decode(p->words[i])))
			return parse_fail(p, "'%.40s' has a %% that two digits do not follow",
					  p->words[i]);
	}
	return 0;
}

/* The session has compared the file's digest. */
int parse_file(struct parser *p)
{
	char *place;

	if (p->count != 2 && p->count != 3)
		return parse_fail(p, "file is followed by a name and perhaps a SHA-256");
	return find(p, p->words[1], &place);
}

/* The session hands it over again with --environment, beside what it sets by itself. */
int parse_environment(struct parser *p)
{
	if (p->count != 2 || !strchr(p->words[1], '='))
		return parse_fail(p, "environment is followed by NAME=VALUE");
	return 0;
}
