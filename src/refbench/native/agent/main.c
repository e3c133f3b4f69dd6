/* SPDX-License-Identifier: MIT */
/* The agent's one run: arguments, the program, the samples, the end line. */
#include "agent.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct shared *shared;

static bool introduced;

static int prepare(int argc, char **argv, struct rb_error *error)
{
	size_t size;

	if (arguments_read(argc, argv, error) || pattern_make(error))
		return -1;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || guard_install())
		return rb_fail(error, RB_UNSUPPORTED, 0, "", "Signals cannot be handled here.");
	/* Kernels without transparent huge pages refuse this and need it not. */
	(void)prctl(PR_SET_THP_DISABLE, !options.thp, 0, 0, 0);
	if (options.probe || options.api)
		return 0;
	if (mechanism_choose(options.mechanism, error) || program_read(options.program, error))
		return -1;
	observation_slots = program.observations < MAX_OBSERVATIONS ?
			    (uint32_t)program.observations + 1 : MAX_OBSERVATIONS;
	size = observation_slots * sizeof(*observations);
	observations = area_new(size, true);
	if (!observations || area_note())
		return rb_fail(error, RB_UNSUPPORTED, 0, "", "There is no memory for the agent.");
	return execute_prepare(error) || threads_prepare(error) ? -1 : 0;
}

static int run(void)
{
	for (sample_index = 0; sample_index <= options.iterations; sample_index++) {
		int rc = sample_run();

		introduced = true;
		if (rc)
			return -1;
	}
	return 0;
}

static int finish(const struct rb_error *error)
{
	if (!introduced)
		out_agent("");
	out_failure(error);
	return error->kind == RB_USAGE ? 2 : 3;
}

int main(int argc, char **argv)
{
	uint64_t began = now_ns();
	struct rb_error error;
	long page = sysconf(_SC_PAGESIZE);
	int rc = 0;

	if (argc == 2 && !strcmp(argv[1], "--descriptors"))
		return descriptors_count();
	if (page <= 0)
		return 1;
	context.page_size = (size_t)page;
	if (area_shared())
		return 1;
	context.counters = &shared->counters;
	memset(&error, 0, sizeof(error));
	if (prepare(argc, argv, &error)) {
		rc = finish(&error);
	} else if (options.probe || options.api) {
		out_agent("");
		rc = probe_all();
	} else if (run()) {
		rc = finish(&shared->error);
	}
	out_text("{\"type\":\"spent\",\"ns\":%llu}\n", (unsigned long long)(now_ns() - began));
	return out_end(rc) ? 1 : rc;
}
