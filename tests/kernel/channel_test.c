/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that do not say what they should, by the name they are called; see test_channel.py. */
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

static void good(void)
{
	printf("1..1\nok 1 - good.case\n");
}

static void failing(void)
{
	printf("1..2\nok 1 - failing.first\n# why it fails\nnot ok 2 - failing.second\n");
	exit(1);
}

static void cut(void)
{
	printf("1..2\nok 1 - cut.first\nok 2 - cut.sec");
	fflush(stdout);
	_exit(0);
}

static void killed(void)
{
	printf("1..1\n# before the end\n");
	abort();
}

/* Nobody waits for what a child still holds open */
static void leaving(void)
{
	printf("1..1\nok 1 - leaving.case\n");
	fflush(stdout);
	if (fork() == 0)
		sleep(600);
}

static void panic(void)
{
	printf("1..2\nok 1 - panic.first\n");
	fflush(stdout);
	/* That this is through nobody but init knows */
	sleep(2);
	write_file("/proc/sysrq-trigger", "c");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} ways[] = {
		{ "a_good", good },	{ "b_failing", failing }, { "c_cut", cut },
		{ "d_killed", killed }, { "e_leaving", leaving }, { "f_panic", panic },
	};
	const char *name = argc ? basename(argv[0]) : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(name, ways[i].name))
			ways[i].run();
	return 0;
}
