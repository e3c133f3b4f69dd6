/* SPDX-License-Identifier: MIT */
/*
 * Renders pages of a PDF document to bitmaps with libpdfium, as PDFium's own pdfium_test does
 * without an output format: the file is read into one allocation, pages stay loaded until the
 * end, each page has its text loaded, is drawn progressively at 72 dots an inch into a bitmap
 * of its own, with annotations and forms. Pages are counted from 0, as there.
 *
 *	render --library LIBPDFIUM [--pages FIRST[-LAST]] [--image PREFIX] DOCUMENT
 *	render --library LIBPDFIUM [--pages FIRST[-LAST]] --check DOCUMENT
 *
 * --check opens the document and looks at the range; it renders nothing. --image writes each
 * bitmap as PREFIX-PAGE.ppm. The numbers on descriptor 3 and the exit codes are in report.h; a
 * failure is one line on stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pdfium.h"
#include "report.h"

#define WHITE 0xffffffffUL
#define TRANSPARENT 0UL

struct arguments {
	const char *library;
	const char *document;
	const char *images;
	int first;
	int last;		/* -1: to the end */
	int check;
};

struct content {
	unsigned char *data;
	size_t size;
};

/* The forms come first: the library's callback gets their address and finds the rest from it. */
struct session {
	struct pdfium_forms forms;
	struct pdfium library;
	pdfium_document document;
	pdfium_form form;
	pdfium_page *pages;	/* NULL: not loaded yet */
	int count;
};

struct total {
	uint64_t ns;
	uint64_t bytes;
	uint64_t hash;
};

static int number(const char *text, char **end)
{
	long value;

	errno = 0;
	value = strtol(text, end, 10);
	if (errno || *end == text || value < 0 || value > 1 << 24)
		fail(EXIT_USAGE, "%s is no range of pages; write FIRST or FIRST-LAST", text);
	return (int)value;
}

static void parse_pages(struct arguments *arguments, const char *text)
{
	char *end;

	arguments->first = number(text, &end);
	arguments->last = arguments->first;
	if (*end == '-')
		arguments->last = number(end + 1, &end);
	if (*end || arguments->last < arguments->first)
		fail(EXIT_USAGE, "%s is no range of pages; write FIRST or FIRST-LAST", text);
}

static struct arguments parse(int argc, char **argv)
{
	struct arguments arguments = { .last = -1 };

	for (int i = 1; i < argc; i++) {
		int more = i + 1 < argc;

		if (!strcmp(argv[i], "--check"))
			arguments.check = 1;
		else if (!strcmp(argv[i], "--library") && more)
			arguments.library = argv[++i];
		else if (!strcmp(argv[i], "--image") && more)
			arguments.images = argv[++i];
		else if (!strcmp(argv[i], "--pages") && more)
			parse_pages(&arguments, argv[++i]);
		else if (argv[i][0] == '-' || arguments.document)
			fail(EXIT_USAGE, "there is no argument %s", argv[i]);
		else
			arguments.document = argv[i];
	}
	if (!arguments.library || !arguments.document)
		fail(EXIT_USAGE, "--library LIBPDFIUM and a document are needed");
	return arguments;
}

static struct content read_all(const char *path)
{
	struct content content = { NULL, 0 };
	struct stat status;
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0 || fstat(file, &status))
		fail(EXIT_UNREADABLE, "the document %s cannot be read: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode) || !status.st_size)
		fail(EXIT_BROKEN, "%s is no file with content", path);
	content.data = malloc((size_t)status.st_size);
	if (!content.data)
		fail(EXIT_MEMORY, "no memory for the %lld bytes of %s",
		     (long long)status.st_size, path);
	while (content.size < (size_t)status.st_size) {
		ssize_t got = read(file, content.data + content.size,
				   (size_t)status.st_size - content.size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			fail(EXIT_UNREADABLE, "the document %s cannot be read: %s", path,
			     got ? strerror(errno) : "it became shorter");
		content.size += (size_t)got;
	}
	if (close(file))
		fail(EXIT_UNREADABLE, "the document %s cannot be read: %s", path, strerror(errno));
	return content;
}

static int give_block(void *user, unsigned long offset, unsigned char *buffer, unsigned long size)
{
	const struct content *content = user;

	if (offset > content->size || size > content->size - offset)
		return 0;
	memcpy(buffer, content->data + offset, size);
	return 1;
}

static pdfium_page load_page(struct session *session, int index)
{
	const struct pdfium *library = &session->library;
	pdfium_page page;

	if (index < 0 || index >= session->count)
		return NULL;
	if (session->pages[index])
		return session->pages[index];
	page = library->page_load(session->document, index);
	/* Known before its actions run: they may ask for it. */
	session->pages[index] = page;
	if (page) {
		library->form_page_loaded(page, session->form);
		library->form_page_action(page, session->form, PDFIUM_PAGE_OPENED);
	}
	return page;
}

static pdfium_page page_of_form(struct pdfium_forms *forms, pdfium_document document, int index)
{
	(void)document;
	return load_page((struct session *)forms, index);
}

static int pause_wanted(struct pdfium_pause *pause)
{
	(void)pause;
	return 1;
}

static void open_document(struct session *session, struct pdfium_file *file, const char *path)
{
	const struct pdfium *library = &session->library;

	session->document = library->load(file, NULL);
	if (session->document)
		return;
	switch (library->error()) {
	case PDFIUM_ERROR_PASSWORD:
		fail(EXIT_ENCRYPTED, "the document %s is encrypted and needs a password", path);
	case PDFIUM_ERROR_SECURITY:
		fail(EXIT_ENCRYPTED, "the document %s is encrypted in a way that libpdfium "
		     "does not know", path);
	default:
		fail(EXIT_BROKEN, "%s is no PDF document, or a broken one", path);
	}
}

static void open_forms(struct session *session)
{
	session->forms.version = 1;
	session->forms.page = page_of_form;
	session->form = session->library.form_open(session->document, &session->forms);
	if (!session->form)
		fail(EXIT_LIBRARY, "libpdfium refuses version 1 of the forms' interface");
	session->library.form_open_action(session->form);
}

static void check_range(struct session *session, struct arguments *arguments)
{
	session->count = session->library.page_count(session->document);
	if (arguments->last < 0)
		arguments->last = session->count - 1;
	if (session->count < 1)
		fail(EXIT_BROKEN, "%s is a document without pages", arguments->document);
	if (arguments->last >= session->count)
		fail(EXIT_RANGE, "there is no page %d in %s: it has %d, counted from 0 to %d",
		     arguments->last, arguments->document, session->count, session->count - 1);
	session->pages = calloc((size_t)session->count, sizeof(*session->pages));
	if (!session->pages)
		fail(EXIT_MEMORY, "no memory for a list of %d pages", session->count);
}

static void draw(const struct session *session, pdfium_page page, pdfium_bitmap bitmap, int width,
		 int height)
{
	const struct pdfium *library = &session->library;
	struct pdfium_pause pause = { .version = 1, .wanted = pause_wanted };
	int state = library->render_start(bitmap, page, 0, 0, width, height, 0,
					  PDFIUM_ANNOTATIONS, &pause);

	while (state == PDFIUM_AGAIN)
		state = library->render_continue(page, &pause);
	if (state != PDFIUM_DONE)
		fail(EXIT_PAGE, "libpdfium gave up drawing a page");
	library->form_draw(session->form, bitmap, page, 0, 0, width, height, 0,
			   PDFIUM_ANNOTATIONS);
	library->render_close(page);
}

static void write_image(const char *prefix, int index, const unsigned char *pixels, int stride,
			int width, int height)
{
	char path[4096];
	FILE *file;
	int bad;

	if (snprintf(path, sizeof(path), "%s-%d.ppm", prefix, index) >= (int)sizeof(path))
		fail(EXIT_OUTPUT, "the name of an image is too long: %s", prefix);
	file = fopen(path, "wb");
	if (!file)
		fail(EXIT_OUTPUT, "%s cannot be written: %s", path, strerror(errno));
	bad = fprintf(file, "P6\n%d %d\n255\n", width, height) < 0;
	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++) {
			const unsigned char *bgra = pixels + (size_t)y * (size_t)stride + 4 * x;

			for (int channel = 2; channel >= 0; channel--)
				bad |= putc(bgra[channel], file) == EOF;
		}
	if (fclose(file) || bad)
		fail(EXIT_OUTPUT, "%s cannot be written: %s", path, strerror(errno));
}

static uint64_t look_at(const struct pdfium *library, pdfium_bitmap bitmap, int width, int height,
			const char *images, int index)
{
	const unsigned char *pixels = library->bitmap_buffer(bitmap);
	int stride = library->bitmap_stride(bitmap);
	uint64_t hash = hash_number(hash_number(0, (uint64_t)width), (uint64_t)height);

	if (images)
		write_image(images, index, pixels, stride, width, height);
	for (int y = 0; y < height; y++)
		hash = hash_pixels(hash, pixels + (size_t)y * (size_t)stride, 4 * (size_t)width);
	return hash;
}

static void render_page(struct session *session, int index, const char *images,
			struct total *total)
{
	const struct pdfium *library = &session->library;
	uint64_t begin = now_ns(), seen, hash, ns;
	pdfium_page page = load_page(session, index);
	pdfium_text text;
	pdfium_bitmap bitmap;
	int width, height, alpha;

	if (!page)
		fail(EXIT_PAGE, "page %d of the document is broken", index);
	text = library->text_load(page);
	width = (int)library->page_width(page);
	height = (int)library->page_height(page);
	alpha = library->page_transparent(page) ? 1 : 0;
	bitmap = library->bitmap_create(width, height, alpha);
	if (!bitmap || !library->bitmap_fill(bitmap, 0, 0, width, height,
					     alpha ? TRANSPARENT : WHITE))
		fail(EXIT_MEMORY, "no bitmap of %d x %d points for page %d", width, height, index);
	draw(session, page, bitmap, width, height);
	ns = now_ns() - begin;
	hash = look_at(library, bitmap, width, height, images, index);
	seen = now_ns();
	total->bytes += (uint64_t)library->bitmap_stride(bitmap) * (uint64_t)height;
	library->form_page_action(page, session->form, PDFIUM_PAGE_CLOSED);
	library->form_page_closes(page, session->form);
	library->bitmap_destroy(bitmap);
	if (text)
		library->text_close(text);
	ns += now_ns() - seen;
	total->ns += ns;
	total->hash = hash_number(total->hash, hash);
	report_page(index, ns, hash);
}

static void close_all(struct session *session, const struct content *content)
{
	const struct pdfium *library = &session->library;

	library->form_document_action(session->form, PDFIUM_DOCUMENT_CLOSES);
	for (int i = 0; i < session->count; i++)
		if (session->pages[i])
			library->page_close(session->pages[i]);
	library->form_close(session->form);
	library->close(session->document);
	library->destroy();
	free(session->pages);
	free(content->data);
}

int main(int argc, char **argv)
{
	/* No fonts of the machine: what a document does not bring looks the same everywhere. */
	static const char *no_fonts[] = { NULL };
	const struct pdfium_config config = { .version = 2, .font_paths = no_fonts };
	static struct session session;
	struct arguments arguments = parse(argc, argv);
	struct content content;
	struct pdfium_file file;
	struct total total = { 0, 0, 0 };
	uint64_t begin, started, opened;
	const char *wrong;

	report_open();
	begin = now_ns();
	wrong = pdfium_open(&session.library, arguments.library);
	if (wrong)
		fail(EXIT_LIBRARY, "libpdfium cannot be used: %s", wrong);
	session.library.init(&config);
	started = now_ns();
	content = read_all(arguments.document);
	file = (struct pdfium_file){ content.size, give_block, &content };
	open_document(&session, &file, arguments.document);
	check_range(&session, &arguments);
	if (arguments.check) {
		printf("%d\n", session.count);
		return fflush(stdout) ? EXIT_OUTPUT : EXIT_SUCCESS;
	}
	open_forms(&session);
	opened = now_ns();
	for (int i = arguments.first; i <= arguments.last; i++)
		render_page(&session, i, arguments.images, &total);
	close_all(&session, &content);
	report("pages", (uint64_t)(arguments.last - arguments.first + 1));
	report("pages-ns", total.ns);
	report("library-ns", started - begin);
	report("document-ns", opened - started);
	report("bitmap-bytes", total.bytes);
	report("hash", total.hash);
	report_flush();
	return EXIT_SUCCESS;
}
