/* SPDX-License-Identifier: MIT */
/* Reads a program file into steps, blocks and all. It refuses what it does not know. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct program program;

enum closer { END_OF_FILE, END, PARENT };

static int parse_block(struct parser *p, int depth, enum closer *closer);

int parse_fail(struct parser *p, const char *format, ...)
{
	char what[160];
	va_list args;

	va_start(args, format);
	if (vsnprintf(what, sizeof(what), format, args) < 0)
		what[0] = '\0';
	va_end(args);
	return rb_fail(p->error, RB_USAGE, 0, "docs/program-format.md describes every step.",
		       "%.80s, line %u: %s.", p->source, p->line, what);
}

/* The words of the next line that has some, into p->words. 0: there is none. */
static int next_line(struct parser *p)
{
	for (p->count = 0; *p->at && !p->count;) {
		char *line = p->at;
		char *end = strchr(line, '\n');
		char *save = NULL;
		char *word;

		p->at = end ? end + 1 : line + strlen(line);
		if (end)
			*end = '\0';
		p->line++;
		line[strcspn(line, "#")] = '\0';
		for (word = strtok_r(line, " \t\r\v\f", &save); word;
		     word = strtok_r(NULL, " \t\r\v\f", &save)) {
			/* What is too much is seen by the count; the name may be long. */
			if (p->count < MAX_WORDS)
				p->words[p->count++] = word;
		}
	}
	return p->count;
}

static bool is(const struct parser *p, int at, const char *word)
{
	return at < p->count && !strcmp(p->words[at], word);
}

int parse_only(struct parser *p, int count)
{
	if (p->count - 1 == count)
		return 0;
	return parse_fail(p, "expected %d words after the step's name, found %d", count,
			  p->count - 1);
}

bool parse_flag(struct parser *p, const char *name)
{
	if (p->count < 2 || !is(p, p->count - 1, name))
		return false;
	p->count--;
	return true;
}

int parse_number(struct parser *p, const char *word, uint64_t least, uint64_t most, uint64_t *out)
{
	unsigned int base = word[0] == '0' && (word[1] == 'x' || word[1] == 'X') ? 16 : 10;
	const char *at = base == 16 ? word + 2 : word;
	uint64_t value = 0;

	if (!*at || (base == 10 && at[0] == '0' && at[1]))
		return parse_fail(p, "'%.40s' is not a number", word);
	for (; *at; at++) {
		unsigned int digit = *at >= '0' && *at <= '9' ? (unsigned int)(*at - '0') :
				     *at >= 'a' && *at <= 'f' ? (unsigned int)(*at - 'a') + 10 :
				     *at >= 'A' && *at <= 'F' ? (unsigned int)(*at - 'A') + 10 : 99;

		if (digit >= base)
			return parse_fail(p, "'%.40s' is not a number", word);
		if (value > (UINT64_MAX - digit) / base)
			return parse_fail(p, "%.40s is out of range", word);
		value = value * base + digit;
	}
	if (value < least || value > most)
		return parse_fail(p, "%.40s is out of range", word);
	*out = value;
	return 0;
}

static uint64_t product(uint64_t a, uint64_t b)
{
	return a && b > MAX_OBSERVATIONS / a ? MAX_OBSERVATIONS : a * b;
}

/* The body of a block, up to the closer that must come. */
static int parse_body(struct parser *p, int depth, enum closer wanted)
{
	uint32_t opened = p->line;
	enum closer closer;

	if (parse_block(p, depth + 1, &closer))
		return -1;
	if (closer == wanted)
		return 0;
	p->line = opened;
	return parse_fail(p, "the block that starts here is not closed by '%s'",
			  wanted == END ? "end" : "parent");
}

static int parse_repeat(struct parser *p, struct step *s, int depth)
{
	uint64_t times = p->times;

	if (parse_only(p, 1) || parse_number(p, p->words[1], 1, INT64_MAX, &s->count))
		return -1;
	p->times = product(times, s->count);
	if (parse_body(p, depth, END))
		return -1;
	p->times = times;
	return 0;
}

static int parse_fork(struct parser *p, struct step *s, int depth)
{
	s->flag = parse_flag(p, "parent-first");
	program.observations += p->times;
	p->in_fork++;
	if (parse_only(p, 0) || parse_body(p, depth, PARENT))
		return -1;
	s->middle = program.count;
	if (parse_body(p, depth, END))
		return -1;
	p->in_fork--;
	return 0;
}

static int parse_threads(struct parser *p, int depth, uint64_t *threads)
{
	struct step *s = &program.steps[program.count++];
	uint64_t times = p->times;

	s->verb = V_THREADS;
	s->line = p->line;
	s->flag = parse_flag(p, "loop");
	if (parse_only(p, 1) || parse_number(p, p->words[1], 1, MAX_THREADS, &s->count))
		return -1;
	*threads += s->count;
	if (*threads > MAX_THREADS)
		return parse_fail(p, "more than %d threads", MAX_THREADS);
	p->times = s->flag ? MAX_OBSERVATIONS : product(times, s->count);
	p->in_threads = true;
	if (parse_body(p, depth + 1, END))
		return -1;
	p->in_threads = false;
	p->times = times;
	s->end = program.count;
	return 0;
}

static int parse_parallel(struct parser *p, int depth)
{
	uint64_t threads = 0;
	bool ends = false;

	if (parse_only(p, 0))
		return -1;
	while (next_line(p) && !(p->count == 1 && is(p, 0, "end"))) {
		uint32_t group = program.count;

		if (!is(p, 0, "threads"))
			return parse_fail(p, "a parallel block holds threads blocks only");
		if (parse_threads(p, depth, &threads))
			return -1;
		ends = ends || !program.steps[group].flag;
	}
	if (!p->count)
		return parse_fail(p, "a parallel block is not closed by 'end'");
	if (!ends)
		return parse_fail(p, "a parallel block needs a threads block that ends");
	if (threads > program.threads)
		program.threads = (uint32_t)threads;
	return 0;
}

static int parse_one(struct parser *p, int depth)
{
	struct step *s = &program.steps[program.count];
	bool repeat = is(p, 0, "repeat"), fork = is(p, 0, "fork"), parallel = is(p, 0, "parallel");
	int rc;

	program.count++;
	s->line = p->line;
	s->verb = repeat ? V_REPEAT : fork ? V_FORK : V_PARALLEL;
	if (p->in_threads && (fork || parallel || is(p, 0, "phase") || is(p, 0, "measure")))
		return parse_fail(p, "no '%s' inside threads", p->words[0]);
	if (repeat)
		rc = parse_repeat(p, s, depth);
	else if (fork)
		rc = parse_fork(p, s, depth);
	else if (parallel)
		rc = parse_parallel(p, depth);
	else
		rc = parse_step(p, s);
	s->end = program.count;
	return rc;
}

static int parse_block(struct parser *p, int depth, enum closer *closer)
{
	if (depth > MAX_DEPTH)
		return parse_fail(p, "blocks are nested deeper than %d", MAX_DEPTH);
	while (next_line(p)) {
		if (p->count == 1 && (is(p, 0, "end") || is(p, 0, "parent"))) {
			*closer = is(p, 0, "end") ? END : PARENT;
			return 0;
		}
		if (parse_one(p, depth))
			return -1;
	}
	*closer = END_OF_FILE;
	return 0;
}

static int parse_name(struct parser *p)
{
	(void)p;
	return 0;
}

static int parse_observe(struct parser *p)
{
	if (p->count != 2 || (!is(p, 1, "all") && !is(p, 1, "failures")))
		return parse_fail(p, "observe is followed by all or failures");
	program.observe_all = is(p, 1, "all");
	return 0;
}

/* What reads a line of the head that begins so; NULL: no such line. */
static int (*head_parser(const char *at))(struct parser *)
{
	static const struct {
		const char *word;
		int (*parse)(struct parser *);
	} heads[] = {
		{ "name", parse_name }, { "observe", parse_observe }, { "file", parse_file },
		{ "environment", parse_environment },
	};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		size_t length = strlen(heads[i].word);

		if (!strncmp(at, heads[i].word, length) && strchr(" \t\r\n#", at[length]))
			return heads[i].parse;
	}
	return NULL;
}

/* "refbench-program 1", then lines of the head as long as they come. */
static int parse_head(struct parser *p)
{
	if (!next_line(p) || p->count != 2 || !is(p, 0, "refbench-program") || !is(p, 1, "1"))
		return parse_fail(p, "the first line must be 'refbench-program 1'");
	for (;;) {
		char *at = p->at + strspn(p->at, " \t\r\v\f\n");
		int (*parser)(struct parser *) = head_parser(at);

		if (at[0] == '#') {
			/* A comment: leave its line out and look again. */
			for (char *c = p->at; c < at; c++)
				p->line += *c == '\n';
			at += strcspn(at, "\n");
			p->line += *at == '\n';
			p->at = at + (*at == '\n');
			continue;
		}
		if (!parser)
			return 0;
		if (next_line(p) && parser(p))
			return -1;
	}
}

static int parse_text(struct parser *p)
{
	enum closer closer;

	if (parse_head(p) || parse_block(p, 0, &closer))
		return -1;
	if (closer != END_OF_FILE)
		return parse_fail(p, "'%s' without a block to close",
				  closer == END ? "end" : "parent");
	return 0;
}

static int fail_file(const char *path, struct rb_error *error)
{
	return rb_fail(error, RB_USAGE, errno, "Check the path.",
		       "The program file %.80s cannot be read: %s.", path, strerror(errno));
}

/* The file's text, with a zero after it, in pages that munmap() gives back. */
static char *load(const char *path, size_t *size, size_t *lines, struct rb_error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *text;
	size_t got = 0;

	if (fd < 0 || fstat(fd, &st)) {
		fail_file(path, error);
		return NULL;
	}
	*size = (size_t)st.st_size + 1;
	text = area_new(*size, false);
	while (text && got < *size - 1) {
		ssize_t n = read(fd, text + got, *size - 1 - got);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	if (!text || close(fd) || got < *size - 1) {
		fail_file(path, error);
		return NULL;
	}
	for (size_t i = 0; i < got; i++)
		*lines += text[i] == '\n';
	return text;
}

int program_read(const char *path, struct rb_error *error)
{
	char *words[MAX_WORDS];
	struct parser p = { .source = path, .words = words, .times = 1, .error = error };
	size_t size, lines = 2;
	char *text = load(path, &size, &lines, error);

	if (!text)
		return -1;
	p.at = text;
	p.size = size;
	program.steps = area_new(lines * sizeof(*program.steps), false);
	if (!program.steps)
		return fail_file(path, error);
	strcpy(program.phases[program.phase_count++], "setup");
	strcpy(program.phases[program.phase_count++], "atfork");
	strcpy(program.labels[program.label_count++], "start");
	if (parse_text(&p) || program_place(path, error))
		return -1;
	if (program.words && program.region_count)
		return parse_fail(&p, "a program with 'execute' maps nothing by itself");
	/* Nothing writes the steps any more; a child need not copy them. */
	if (mprotect(program.steps, lines * sizeof(*program.steps), PROT_READ) ||
	    munmap(text, size))
		return fail_file(path, error);
	return 0;
}
