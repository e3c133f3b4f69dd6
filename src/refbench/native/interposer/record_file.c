/* SPDX-License-Identifier: MIT */
/* The file of a heap trace: docs/trace-format.md. */
#include "record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define VERSION 1
#define BLOCK_EVENTS (1u << 16)
#define MOST_BYTES 26		/* of one event: a kind, two numbers of 64 bits, one of 32 */
#define PLAIN 1			/* kinds of blocks */
#define LAST 3

static uint32_t crc_table[256];
static unsigned char *block;	/* of one block, the payload */
static size_t used;
static uint32_t events;
static uint64_t all_events, all_blocks, last_address;
static uint32_t last_thread;
static int file;

/* CRC-32 as zlib has it. */
static void crc_start(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
		crc_table[i] = c;
	}
}

static uint32_t crc_add(uint32_t crc, const void *data, size_t size)
{
	const unsigned char *at = data;

	crc = ~crc;
	while (size--)
		crc = crc_table[(crc ^ *at++) & 0xff] ^ crc >> 8;
	return ~crc;
}

static int write_all(const void *data, size_t size)
{
	const char *at = data;

	while (size) {
		ssize_t got = write(file, at, size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		at += got;
		size -= (size_t)got;
	}
	return 0;
}

static void put_word(unsigned char *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (unsigned char)(value >> 8 * i);
}

static int write_block(uint32_t kind, const void *data, size_t size, uint32_t count)
{
	unsigned char head[16], sum[4];
	uint32_t crc;

	put_word(head, kind);
	put_word(head + 4, (uint32_t)size);
	put_word(head + 8, count);
	put_word(head + 12, (uint32_t)size);
	crc = crc_add(crc_add(0, head, sizeof(head)), data, size);
	put_word(sum, crc);
	return write_all(head, sizeof(head)) || write_all(data, size) ||
	       write_all(sum, sizeof(sum)) ? -1 : 0;
}

int record_file_begin(const struct record_setup *setup)
{
	const char *facts = setup->ring->start_facts;
	size_t size = strlen(facts);
	unsigned char head[20], sum[4];
	uint32_t crc;

	crc_start();
	file = setup->file;
	block = mmap(NULL, BLOCK_EVENTS * MOST_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (block == MAP_FAILED)
		return -1;
	memcpy(head, "refbtrc\n", 8);
	put_word(head + 8, VERSION);
	put_word(head + 12, (uint32_t)setup->page_size);
	put_word(head + 16, (uint32_t)size);
	crc = crc_add(crc_add(0, head, sizeof(head)), facts, size);
	put_word(sum, crc);
	return write_all(head, sizeof(head)) || write_all(facts, size) ||
	       write_all(sum, sizeof(sum)) ? -1 : 0;
}

static void put_number(uint64_t value)
{
	while (value >= 0x80) {
		block[used++] = (unsigned char)(value | 0x80);
		value >>= 7;
	}
	block[used++] = (unsigned char)value;
}

static uint64_t zigzag(int64_t value)
{
	return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

static int flush(void)
{
	int rc = events ? write_block(PLAIN, block, used, events) : 0;

	all_events += events;
	all_blocks += events != 0;
	used = 0;
	events = 0;
	last_address = 0;
	last_thread = 0;
	return rc;
}

int record_file_put(const struct record_event *event)
{
	put_number(event->kind);
	put_number(zigzag((int64_t)(event->address - last_address)));
	put_number(event->length);
	put_number(zigzag((int64_t)event->thread - (int64_t)last_thread));
	last_address = event->address;
	last_thread = event->thread;
	return ++events == BLOCK_EVENTS ? flush() : 0;
}

int record_file_end(const char *facts)
{
	char text[RECORD_FACTS + 128];
	int size;

	if (flush())
		return -1;
	size = snprintf(text, sizeof(text), "events=%llu\nblocks=%llu\n%s",
			(unsigned long long)all_events, (unsigned long long)all_blocks, facts);
	if (size < 0 || (size_t)size >= sizeof(text)) {
		errno = EOVERFLOW;
		return -1;
	}
	return write_block(LAST, text, (size_t)size, 0);
}
