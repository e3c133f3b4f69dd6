/* SPDX-License-Identifier: MIT */
/* Opens libpdfium at run time, so that one renderer serves every build of the library. */
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "pdfium.h"

struct symbol {
	const char *name;
	size_t offset;
};

static const struct symbol symbols[] = {
	{ "FPDF_InitLibraryWithConfig", offsetof(struct pdfium, init) },
	{ "FPDF_DestroyLibrary", offsetof(struct pdfium, destroy) },
	{ "FPDF_LoadCustomDocument", offsetof(struct pdfium, load) },
	{ "FPDF_CloseDocument", offsetof(struct pdfium, close) },
	{ "FPDF_GetLastError", offsetof(struct pdfium, error) },
	{ "FPDF_GetPageCount", offsetof(struct pdfium, page_count) },
	{ "FPDFDOC_InitFormFillEnvironment", offsetof(struct pdfium, form_open) },
	{ "FPDFDOC_ExitFormFillEnvironment", offsetof(struct pdfium, form_close) },
	{ "FPDF_FFLDraw", offsetof(struct pdfium, form_draw) },
	{ "FORM_OnAfterLoadPage", offsetof(struct pdfium, form_page_loaded) },
	{ "FORM_OnBeforeClosePage", offsetof(struct pdfium, form_page_closes) },
	{ "FORM_DoPageAAction", offsetof(struct pdfium, form_page_action) },
	{ "FORM_DoDocumentOpenAction", offsetof(struct pdfium, form_open_action) },
	{ "FORM_DoDocumentAAction", offsetof(struct pdfium, form_document_action) },
	{ "FPDF_LoadPage", offsetof(struct pdfium, page_load) },
	{ "FPDF_ClosePage", offsetof(struct pdfium, page_close) },
	{ "FPDF_GetPageWidthF", offsetof(struct pdfium, page_width) },
	{ "FPDF_GetPageHeightF", offsetof(struct pdfium, page_height) },
	{ "FPDFPage_HasTransparency", offsetof(struct pdfium, page_transparent) },
	{ "FPDFText_LoadPage", offsetof(struct pdfium, text_load) },
	{ "FPDFText_ClosePage", offsetof(struct pdfium, text_close) },
	{ "FPDFBitmap_Create", offsetof(struct pdfium, bitmap_create) },
	{ "FPDFBitmap_FillRect", offsetof(struct pdfium, bitmap_fill) },
	{ "FPDFBitmap_GetBuffer", offsetof(struct pdfium, bitmap_buffer) },
	{ "FPDFBitmap_GetStride", offsetof(struct pdfium, bitmap_stride) },
	{ "FPDFBitmap_Destroy", offsetof(struct pdfium, bitmap_destroy) },
	{ "FPDF_RenderPageBitmap_Start", offsetof(struct pdfium, render_start) },
	{ "FPDF_RenderPage_Continue", offsetof(struct pdfium, render_continue) },
	{ "FPDF_RenderPage_Close", offsetof(struct pdfium, render_close) },
};

const char *pdfium_open(struct pdfium *library, const char *path)
{
	/* Never closed: the process ends with it. */
	void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!object)
		return dlerror();
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *address = dlsym(object, symbols[i].name);

		if (!address)
			return dlerror();
		memcpy((char *)library + symbols[i].offset, &address, sizeof(address));
	}
	return NULL;
}
