/* SPDX-License-Identifier: MIT */
/*
 * The part of libpdfium's public C interface that the renderer calls, declared here because
 * the library comes without headers. Names and types are PDFium's; they have been stable
 * since 2014 (fpdfview.h, fpdf_formfill.h, fpdf_progressive.h, fpdf_text.h).
 */
#ifndef REFBENCH_PDFIUM_H
#define REFBENCH_PDFIUM_H

#include <stddef.h>

typedef struct pdfium_document *pdfium_document;
typedef struct pdfium_page *pdfium_page;
typedef struct pdfium_text *pdfium_text;
typedef struct pdfium_bitmap *pdfium_bitmap;
typedef struct pdfium_form *pdfium_form;

enum {
	PDFIUM_ANNOTATIONS = 1,
	PDFIUM_AGAIN = 1,		/* FPDF_RENDER_TOBECONTINUED */
	PDFIUM_DONE = 2,
	PDFIUM_ERROR_FORMAT = 3,
	PDFIUM_ERROR_PASSWORD = 4,
	PDFIUM_ERROR_SECURITY = 5,
	PDFIUM_PAGE_OPENED = 0,
	PDFIUM_PAGE_CLOSED = 1,
	PDFIUM_DOCUMENT_CLOSES = 0x10,
};

/* Version 2 of it. A list of font directories that is empty: the system's fonts are not used. */
struct pdfium_config {
	int version;
	const char **font_paths;
	void *isolate;
	unsigned int embedder_slot;
};

struct pdfium_pause {
	int version;
	int (*wanted)(struct pdfium_pause *pause);
	void *user;
};

/* A document that is read by a function; it gives 0 when the range is not in the file. */
struct pdfium_file {
	unsigned long size;
	int (*block)(void *user, unsigned long offset, unsigned char *buffer, unsigned long size);
	void *user;
};

/* Version 1 of it: pointers to functions, of which we give one; room for those of later versions. */
struct pdfium_forms {
	int version;
	void *unused[8];
	pdfium_page (*page)(struct pdfium_forms *forms, pdfium_document document, int index);
	void *rest[40];
};

struct pdfium {
	void (*init)(const struct pdfium_config *config);
	void (*destroy)(void);
	pdfium_document (*load)(struct pdfium_file *file, const char *password);
	void (*close)(pdfium_document document);
	unsigned long (*error)(void);
	int (*page_count)(pdfium_document document);
	pdfium_form (*form_open)(pdfium_document document, struct pdfium_forms *forms);
	void (*form_close)(pdfium_form form);
	void (*form_draw)(pdfium_form form, pdfium_bitmap bitmap, pdfium_page page, int x, int y,
			  int width, int height, int rotate, int flags);
	void (*form_page_loaded)(pdfium_page page, pdfium_form form);
	void (*form_page_closes)(pdfium_page page, pdfium_form form);
	void (*form_page_action)(pdfium_page page, pdfium_form form, int action);
	void (*form_open_action)(pdfium_form form);
	void (*form_document_action)(pdfium_form form, int action);
	pdfium_page (*page_load)(pdfium_document document, int index);
	void (*page_close)(pdfium_page page);
	float (*page_width)(pdfium_page page);
	float (*page_height)(pdfium_page page);
	int (*page_transparent)(pdfium_page page);
	pdfium_text (*text_load)(pdfium_page page);
	void (*text_close)(pdfium_text text);
	pdfium_bitmap (*bitmap_create)(int width, int height, int alpha);
	int (*bitmap_fill)(pdfium_bitmap bitmap, int x, int y, int width, int height,
			   unsigned long colour);
	void *(*bitmap_buffer)(pdfium_bitmap bitmap);
	int (*bitmap_stride)(pdfium_bitmap bitmap);
	void (*bitmap_destroy)(pdfium_bitmap bitmap);
	int (*render_start)(pdfium_bitmap bitmap, pdfium_page page, int x, int y, int width,
			    int height, int rotate, int flags, struct pdfium_pause *pause);
	int (*render_continue)(pdfium_page page, struct pdfium_pause *pause);
	void (*render_close)(pdfium_page page);
};

/* Fill in @library from the shared object @path; NULL, or what went wrong. */
const char *pdfium_open(struct pdfium *library, const char *path);

#endif
