/* SPDX-License-Identifier: MIT */
/* The steps that are no blocks: one function a kind, picked by the verb. */
#include "agent.h"

#include <string.h>
#include <sys/mman.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

const char *const verb_names[VERBS] = {
	"phase", "measure", "map", "map-anonymous", "unmap", "touch", "handout", "expect", "advise",
	"protect", "lock", "unlock", "remap", "kernel-reads", "kernel-writes", "userfault",
	"reference", "descriptors", "settle", "kernel-log", "execute", "repeat", "fork", "parallel",
	"threads",
};

struct word {
	const char *name;
	int value;
};

static const struct word advice[] = {
	{ "cold", MADV_COLD }, { "collapse", MADV_COLLAPSE }, { "dontneed", MADV_DONTNEED },
	{ "free", MADV_FREE }, { "hugepage", MADV_HUGEPAGE }, { "mergeable", MADV_MERGEABLE },
	{ "nohugepage", MADV_NOHUGEPAGE }, { "pageout", MADV_PAGEOUT },
	{ "populate-read", MADV_POPULATE_READ }, { "populate-write", MADV_POPULATE_WRITE },
	{ "unmergeable", MADV_UNMERGEABLE }, { "willneed", MADV_WILLNEED }, { NULL, 0 },
};
static const struct word protections[] = {
	{ "none", PROT_NONE }, { "read", PROT_READ }, { "readwrite", PROT_READ | PROT_WRITE },
	{ NULL, 0 },
};
static const struct word accesses[] = {
	{ "read", A_READ }, { "write", A_WRITE }, { "readwrite", A_READWRITE }, { NULL, 0 },
};
static const struct word orders[] = {
	{ "forward", O_FORWARD }, { "backward", O_BACKWARD }, { "random", O_RANDOM }, { NULL, 0 },
};
static const struct word pasts[] = {
	{ "fresh", P_FRESH }, { "reused", P_REUSED }, { "purged", P_PURGED }, { NULL, 0 },
};
static const struct word kernel_reads[] = {
	{ "write", VIA_WRITE }, { "direct", VIA_DIRECT }, { "vmreadv", VIA_VMREADV },
	{ "procmem", VIA_PROCMEM }, { "core", VIA_CORE }, { NULL, 0 },
};
static const struct word kernel_writes[] = {
	{ "read", VIA_READ }, { "vmwritev", VIA_VMWRITEV }, { "procmem", VIA_PROCMEM }, { NULL, 0 },
};
static const struct word tamperings[] = {
	{ "write", RB_TAMPER_WRITE }, { "truncate", RB_TAMPER_TRUNCATE },
	{ "unmap", RB_TAMPER_UNMAP }, { "from-anonymous", FROM_ANONYMOUS },
	{ "from-file", FROM_FILE }, { "from-shared", FROM_SHARED },
	{ "from-hugetlb", FROM_HUGETLB }, { "from-mapping", FROM_MAPPING },
	{ "from-device", FROM_DEVICE }, { "from-unmapped", FROM_UNMAPPED },
	{ "from-inaccessible", FROM_INACCESSIBLE }, { "from-compat", FROM_COMPAT },
	{ "from-compat-signed", FROM_COMPAT_SIGNED }, { NULL, 0 },
};
static const struct word marks[] = { { "mark", 1 }, { "clean", 0 }, { NULL, 0 } };

static int one_of(struct parser *p, const char *word, const struct word *known, int *out)
{
	for (; known->name; known++) {
		if (!strcmp(known->name, word)) {
			*out = known->value;
			return 0;
		}
	}
	return parse_fail(p, "'%.40s' is not known here", word);
}

static int region(struct parser *p, const char *word, uint32_t *out)
{
	uint64_t value;

	if (parse_number(p, word, 0, MAX_REGIONS - 1, &value))
		return -1;
	*out = (uint32_t)value;
	return 0;
}

static int byte(struct parser *p, const char *word, uint8_t *out)
{
	uint64_t value;

	if (parse_number(p, word, 0, 0xff, &value))
		return -1;
	*out = (uint8_t)value;
	return 0;
}

static int content(struct parser *p, const char *word, struct step *s)
{
	s->content = C_BYTE;
	if (!strcmp(word, "pattern"))
		s->content = C_PATTERN;
	else if (!strcmp(word, "zero"))
		s->content = C_ZERO;
	else
		return byte(p, word, &s->value);
	return 0;
}

/* REGION OFFSET LENGTH, the first three words of most steps. */
static int range(struct parser *p, struct step *s, int at_least)
{
	if (p->count - 1 < at_least)
		return parse_fail(p, "expected %d words or more after '%s', found %d", at_least,
				  p->words[0], p->count - 1);
	if (region(p, p->words[1], &s->region) ||
	    parse_number(p, p->words[2], 0, INT64_MAX, &s->offset) ||
	    parse_number(p, p->words[3], 0, INT64_MAX, &s->length))
		return -1;
	return 0;
}

/* The number of a name in a table that it is put into when it is new. */
static int name(struct parser *p, const char *word, char table[][NAME_SIZE], int *count, int *out)
{
	size_t length = strlen(word);

	if (word[0] < 'a' || word[0] > 'z' || length >= NAME_SIZE ||
	    strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-") != length)
		return parse_fail(p, "'%.40s' is not a lower-case label of at most %d characters",
				  word, NAME_SIZE - 1);
	for (*out = 0; *out < *count; ++*out)
		if (!strcmp(table[*out], word))
			return 0;
	if (*count == MAX_NAMES)
		return parse_fail(p, "more than %d names", MAX_NAMES - 1);
	memcpy(table[(*count)++], word, length + 1);
	return 0;
}

int parse_label(struct parser *p, const char *word, int *out)
{
	return name(p, word, program.labels, &program.label_count, out);
}

static int parse_phase(struct parser *p, struct step *s)
{
	s->choice = -1;
	if (parse_only(p, 1) || !strcmp(p->words[1], "-"))
		return p->count == 2 ? 0 : -1;
	return name(p, p->words[1], program.phases, &program.phase_count, &s->choice);
}

static int parse_measure(struct parser *p, struct step *s)
{
	if (parse_only(p, 1))
		return -1;
	return parse_label(p, p->words[1], &s->choice);
}

static int parse_map(struct parser *p, struct step *s)
{
	bool by_mechanism = s->verb == V_MAP;

	s->choice = by_mechanism && parse_flag(p, "plain");
	s->flag = by_mechanism && !s->choice && parse_flag(p, "populate");
	if (parse_only(p, by_mechanism ? 2 : 3) || region(p, p->words[1], &s->region) ||
	    parse_number(p, p->words[2], 1, INT64_MAX, &s->length))
		return -1;
	return by_mechanism ? 0 : region(p, p->words[3], &s->other);
}

static int parse_range(struct parser *p, struct step *s)
{
	return range(p, s, 3) || parse_only(p, 3) ? -1 : 0;
}

/* One of touch's key=value words. */
static int touch_option(struct parser *p, struct step *s, const char *word, unsigned int *seen)
{
	static const char *const keys[] = { "size=", "order=", "seed=", "count=", "value=" };
	unsigned int i = 0;
	const char *value;
	int choice = 0;

	while (i < 5 && strncmp(word, keys[i], strlen(keys[i])))
		i++;
	if (i == 5 || *seen & 1u << i)
		return parse_fail(p, "'%.40s' is not one of size=, order=, seed=, count=, value=",
				  word);
	*seen |= 1u << i;
	value = word + strlen(keys[i]);
	switch (i) {
	case 0:
		return parse_number(p, value, 1, INT64_MAX, &s->size);
	case 1:
		if (one_of(p, value, orders, &choice))
			return -1;
		s->order = (uint8_t)choice;
		return 0;
	case 2:
		return parse_number(p, value, 0, INT64_MAX, &s->seed);
	case 3:
		return parse_number(p, value, 0, INT64_MAX, &s->count);
	default:
		return byte(p, value, &s->value);
	}
}

static int parse_touch(struct parser *p, struct step *s)
{
	unsigned int seen = 0;
	int access = 0;

	s->flag = parse_flag(p, "shared");
	s->size = 1;
	s->value = 0x55;
	if (range(p, s, 5) || one_of(p, p->words[4], accesses, &access) ||
	    parse_number(p, p->words[5], 1, INT64_MAX, &s->stride))
		return -1;
	s->access = (uint8_t)access;
	for (int i = 6; i < p->count; i++)
		if (touch_option(p, s, p->words[i], &seen))
			return -1;
	if (s->size > s->stride)
		return parse_fail(p, "a touch's size is larger than its stride");
	return 0;
}

static int parse_handout(struct parser *p, struct step *s)
{
	s->count = 1;
	if (range(p, s, 4) || one_of(p, p->words[4], pasts, &s->choice))
		return -1;
	if (p->count == 5)
		return 0;
	if (p->count > 6 || strncmp(p->words[5], "times=", 6))
		return parse_fail(p, "'%.40s' is not one of times=", p->words[5]);
	return parse_number(p, p->words[5] + 6, 1, INT64_MAX, &s->count);
}

static int parse_expect(struct parser *p, struct step *s)
{
	s->flag = parse_flag(p, "once");
	s->stride = 1;
	if (range(p, s, 4) || content(p, p->words[4], s))
		return -1;
	if (p->count == 5)
		return 0;
	if (p->count > 6 || strncmp(p->words[5], "stride=", 7))
		return parse_fail(p, "'%.40s' is not one of stride=", p->words[5]);
	return parse_number(p, p->words[5] + 7, 1, INT64_MAX, &s->stride);
}

/* A range and one word of a table. */
static int parse_choice(struct parser *p, struct step *s)
{
	if (range(p, s, 4) || parse_only(p, 4))
		return -1;
	return one_of(p, p->words[4], s->verb == V_ADVISE ? advice : protections, &s->choice);
}

static int parse_remap(struct parser *p, struct step *s)
{
	if (range(p, s, 5) || parse_only(p, 5) || region(p, p->words[4], &s->other) ||
	    parse_number(p, p->words[5], 0, INT64_MAX, &s->size))
		return -1;
	if (!s->size)
		s->size = s->length;
	return 0;
}

static int parse_kernel(struct parser *p, struct step *s)
{
	bool reads = s->verb == V_KERNEL_READS;
	int via = 0;

	if (range(p, s, 5) || parse_only(p, 5) ||
	    one_of(p, p->words[4], reads ? kernel_reads : kernel_writes, &via))
		return -1;
	s->via = (uint8_t)via;
	return reads ? content(p, p->words[5], s) : byte(p, p->words[5], &s->value);
}

static int parse_userfault(struct parser *p, struct step *s)
{
	if (range(p, s, 4) || parse_only(p, 4))
		return -1;
	if (s->offset % context.page_size || s->length % context.page_size)
		return parse_fail(p, "the range is not one of whole pages");
	return byte(p, p->words[4], &s->value);
}

static int parse_word(struct parser *p, struct step *s)
{
	bool alone = s->verb == V_SETTLE || s->verb == V_DESCRIPTORS;

	if (parse_only(p, alone ? 0 : 1))
		return -1;
	if (alone)
		return 0;
	return one_of(p, p->words[1], s->verb == V_REFERENCE ? tamperings : marks, &s->choice);
}

int parse_step(struct parser *p, struct step *s)
{
	static int (*const parsers[])(struct parser *, struct step *) = {
		[V_PHASE] = parse_phase, [V_MEASURE] = parse_measure,
		[V_MAP] = parse_map, [V_MAP_ANONYMOUS] = parse_map,
		[V_UNMAP] = parse_range, [V_TOUCH] = parse_touch,
		[V_HANDOUT] = parse_handout, [V_EXPECT] = parse_expect,
		[V_ADVISE] = parse_choice, [V_PROTECT] = parse_choice,
		[V_LOCK] = parse_range, [V_UNLOCK] = parse_range, [V_REMAP] = parse_remap,
		[V_KERNEL_READS] = parse_kernel, [V_KERNEL_WRITES] = parse_kernel,
		[V_USERFAULT] = parse_userfault, [V_REFERENCE] = parse_word,
		[V_DESCRIPTORS] = parse_word, [V_SETTLE] = parse_word,
		[V_KERNEL_LOG] = parse_word, [V_EXECUTE] = parse_execute,
	};

	for (uint8_t i = 0; i <= V_EXECUTE; i++) {
		if (strcmp(verb_names[i], p->words[0]))
			continue;
		s->verb = i;
		if (i >= V_TOUCH || i == V_MAP_ANONYMOUS)
			program.observations += p->times;
		return parsers[i](p, s);
	}
	return parse_fail(p, "unknown step '%.40s'", p->words[0]);
}
