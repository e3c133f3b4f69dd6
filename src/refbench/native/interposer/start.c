/* SPDX-License-Identifier: MIT */
/*
 * Making everything ready, on the first call of malloc's family or as the library's constructor,
 * whichever is first. What cannot work ends the process before its program has begun.
 */
#include "interposer.h"
#include "jemalloc.h"
#include "spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SETTINGS 1024

/*
 * jemalloc's own defaults, where machines would differ in them, and what the interposer relies
 * on. docs/interposer.md says why each.
 */
#define DEFAULT_SETTINGS                                                                           \
	"narenas:5,dirty_decay_ms:10000,muzzy_decay_ms:0,retain:true,tcache:true,"                 \
	"lg_tcache_max:15,oversize_threshold:8388608"
#define FIXED_SETTINGS                                                                             \
	"abort_conf:true,background_thread:false,percpu_arena:disabled,thp:default,"               \
	"metadata_thp:disabled,hpa:false,junk:false,zero:false,stats_print:false"

enum { UNTOUCHED, BUSY, READY };

const struct rb_mechanism *rb_mechanism;
struct rb_context rb_context;
bool rb_checking;
size_t rb_small_most;
const struct rb_recorder *rb_recorder;

static atomic_int state;
static struct rb_counters counters;
static char settings[SETTINGS];
static char options_room[RB_SPEC_BYTES];

/* ---- saying things without malloc ---- */

void rb_say(const char *format, ...)
{
	char text[768] = "refbench-malloc: ";
	size_t used = strlen(text);
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text + used, sizeof(text) - used - 1, format, args);
	va_end(args);
	if (length < 0)
		return;
	used += (size_t)length < sizeof(text) - used - 1 ? (size_t)length
							 : sizeof(text) - used - 2;
	text[used++] = '\n';
	if (write(STDERR_FILENO, text, used) < 0)
		return;
}

void rb_refuse(const struct rb_error *error)
{
	rb_say("%s %s", error->message, error->remedy);
	_exit(RB_EXIT_REFUSED);
}

/* ---- the environment ---- */

static int read_pattern(struct rb_error *error)
{
	const char *text = getenv("REFBENCH_MALLOC_PATTERN");
	unsigned char *page = mmap(NULL, rb_context.page_size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return rb_fail_map(error, rb_context.page_size, errno);
	text = text ? text : "byte:0xAA";
	if (rb_pattern_read(&rb_context, text, strncmp(text, "file:", 5) ? NULL : text + 5, page,
			    error))
		return -1;
	if (mprotect(page, rb_context.page_size, PROT_READ))
		return rb_fail_map(error, rb_context.page_size, errno);
	return 0;
}

static int read_mechanism(struct rb_error *error)
{
	const char *spec = getenv("REFBENCH_MALLOC");

	rb_mechanism = rb_spec_read(&rb_context, spec ? spec : "anon", options_room, error);
	if (!rb_mechanism || rb_mechanism->setup(&rb_context, error))
		return -1;
	if (rb_mechanism->stops_system_calls)
		return rb_fail(error, RB_UNSUPPORTED, 0, "Use another mechanism.",
			       "Under %s system calls fail with EFAULT for memory that was not "
			       "touched before, and a real program does not expect that.",
			       rb_mechanism->name);
	/* Only userfaultfd has an unprivileged way, and it serves no faults of the kernel. */
	if (rb_context.unprivileged)
		return rb_fail(error, RB_UNSUPPORTED, 0,
			       "As root: sysctl vm.unprivileged_userfaultfd=1, or chmod 666 "
			       "/dev/userfaultfd.",
			       "This user's userfaultfd does not serve the kernel's own accesses: "
			       "system calls would fail with EFAULT under %s.",
			       rb_mechanism->name);
	return 0;
}

static int read_settings(struct rb_error *error)
{
	const char *own = getenv("REFBENCH_MALLOC_SETTINGS");
	int length = snprintf(settings, sizeof(settings), "%s%s%s,%s", DEFAULT_SETTINGS,
			      own && *own ? "," : "", own ? own : "", FIXED_SETTINGS);

	if (length < 0 || (size_t)length >= sizeof(settings))
		return rb_fail(error, RB_USAGE, 0, "Leave some out.",
			       "REFBENCH_MALLOC_SETTINGS is too long.");
	rbje_malloc_conf_2_conf_harder = settings;
	return 0;
}

/* The largest size class whose blocks share pages. */
static int read_small_most(struct rb_error *error)
{
	unsigned int bins = 0;
	size_t length = sizeof(bins);
	size_t mib[4];
	size_t mib_length = 4;

	if (rbje_mallctl("arenas.nbins", &bins, &length, NULL, 0) || !bins ||
	    rbje_mallctlnametomib("arenas.bin.0.size", mib, &mib_length))
		return rb_fail(error, RB_UNSUPPORTED, 0, "It needs jemalloc 5.3.",
			       "jemalloc does not tell its size classes.");
	mib[2] = bins - 1;
	length = sizeof(rb_small_most);
	if (rbje_mallctlbymib(mib, mib_length, &rb_small_most, &length, NULL, 0))
		return rb_fail(error, RB_UNSUPPORTED, 0, "It needs jemalloc 5.3.",
			       "jemalloc does not tell its size classes.");
	return 0;
}

static int open_recorder(struct rb_error *error)
{
	const char *path = getenv("REFBENCH_TRACE");

	if (!path || !*path)
		return 0;
	if (!rb_recorder_open)
		return rb_fail(error, RB_UNSUPPORTED, 0, "Unset REFBENCH_TRACE.",
			       "This interposer was built without the recorder of traces.");
	rb_recorder = rb_recorder_open(path, error);
	return rb_recorder ? 0 : -1;
}

static int make_ready(struct rb_error *error)
{
	const char *check = getenv("REFBENCH_MALLOC_CHECK");

	rb_context.page_size = (size_t)sysconf(_SC_PAGESIZE);
	rb_context.counters = &counters;
	rb_checking = check && !strcmp(check, "1");
	if (read_pattern(error) || read_mechanism(error) || read_settings(error) ||
	    rb_backing_start(error) || open_recorder(error) || rb_threads_start(error) ||
	    read_small_most(error))
		return -1;
	rb_report_start(getenv("REFBENCH_MALLOC_REPORT"));
	return 0;
}

bool rb_start(void)
{
	struct rb_error error = { .kind = RB_OK };
	int before = UNTOUCHED;
	int saved = errno;

	if (RB_LIKELY(atomic_load_explicit(&state, memory_order_acquire) == READY))
		return true;
	if (!atomic_compare_exchange_strong(&state, &before, BUSY))
		return before == READY;
	if (make_ready(&error))
		rb_refuse(&error);
	atomic_store_explicit(&state, READY, memory_order_release);
	errno = saved;
	return true;
}

/* Before jemalloc's own constructor, which would take its settings as they are by then. */
__attribute__((constructor(101))) static void construct(void)
{
	(void)rb_start();
}
