/* SPDX-License-Identifier: MIT */
/*
 * What the renderer says. Lines `NAME NUMBER` on descriptor 3 where that is a pipe or a file:
 *
 *	page-N-ns	loading and drawing page N, without looking at its bitmap
 *	page-N-hash	63 bits that follow from the size and every byte of its bitmap
 *	pages		how many were drawn
 *	pages-ns	the sum of all page-N-ns
 *	library-ns	opening and starting the library
 *	document-ns	reading and opening the document
 *	bitmap-bytes	of all bitmaps together; one is alive at a time
 *	hash		63 bits that follow from all page-N-hash
 */
#ifndef REFBENCH_PDFIUM_REPORT_H
#define REFBENCH_PDFIUM_REPORT_H

#include <stddef.h>
#include <stdint.h>

enum {
	EXIT_USAGE = 2,
	EXIT_BROKEN = 10,		/* no PDF, or one that the library cannot repair */
	EXIT_ENCRYPTED = 11,
	EXIT_RANGE = 12,		/* a page that the document does not have */
	EXIT_LIBRARY = 13,		/* no libpdfium, or none for this machine */
	EXIT_UNREADABLE = 14,
	EXIT_MEMORY = 15,
	EXIT_PAGE = 16,			/* a page that cannot be drawn */
	EXIT_OUTPUT = 17,		/* descriptor 3 or an image cannot be written */
};

/* End with @code and one line on stderr. */
void fail(int code, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

uint64_t now_ns(void);

/* 64 bits of @size bytes, multiple of 4 as rows of pixels are, going on from @hash. */
uint64_t hash_pixels(uint64_t hash, const void *data, size_t size);
uint64_t hash_number(uint64_t hash, uint64_t number);

/* Look whether there is somebody to report to; before anything else is opened. */
void report_open(void);
void report(const char *name, uint64_t number);
void report_page(int page, uint64_t ns, uint64_t hash);
void report_flush(void);

#endif
