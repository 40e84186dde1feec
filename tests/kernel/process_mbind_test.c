/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init of a machine with three NUMA nodes: 0 has the processors, 1 and 2 have only memory,
 * 2 is the smallest. Runs what the series' own selftests do not have: the announcement that
 * memplace lives by, and a machine whose nodes are not all equally far away. Writes TAP to the
 * console and switches the machine off.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"
#include "target.h"

#define ANNOUNCED "/sys/kernel/mm/mempolicy/process_mbind/"
/* What the next kernel of upstream gives to another call, and then a few more */
#define NEXT_FREE 473
#define NUMBER 900
/* struct procmap_query of <linux/fs.h>, with the fields of the series */
#define PROCMAP_QUERY_SIZE 136
/* More than node 2 has */
#define LARGE_PAGES (80UL * 256)
#define LARGE (LARGE_PAGES * PAGE)

static long announced(const char *file)
{
	const char *text = read_line(file);

	return *text ? strtol(text, NULL, 0) : -1;
}

static bool sysfs_announcement(void)
{
	WANT(announced(ANNOUNCED "nr"), NUMBER);
	WANT(announced(ANNOUNCED "version"), 2);
	WANT(announced(ANNOUNCED "args_size"), sizeof(struct mpol_args));
	WANT(announced(ANNOUNCED "flags"), ALL_FLAGS);
	WANT(announced(ANNOUNCED "future"), FUTURE_BRK | FUTURE_MMAP);
	WANT(announced(ANNOUNCED "procmap_query_size"), PROCMAP_QUERY_SIZE);
	return true;
}

/* A libc newer than the kernel calls these and relies on the answer. */
static bool later_numbers_enosys(void)
{
	struct mpol_args args = { .mode = DEFAULT };
	int self = open_pidfd(getpid());

	for (long nr = NEXT_FREE; nr < NUMBER + 100; nr++) {
		long result = syscall(nr, self, NULL, 0, &args, MPOL_ARGS_SIZE_VER0, 0);

		if (nr == NUMBER)
			WANT(result, 0);
		else if (result != -1 || errno != ENOSYS)
			printf("# system call %ld: %ld, errno %d\n", nr, result, errno);
		CHECK(nr == NUMBER || (result == -1 && errno == ENOSYS));
	}
	return true;
}

/*
 * By this the agent tells the call from another of the same number: the order of the checks,
 * with arguments that are harmless to any call.
 */
static bool signature(void)
{
	static char zeroes[2 * PAGE];
	int self = open_pidfd(getpid());

	WANT(raw_process_mbind(-1, NULL, 0, NULL, 0, ~0U), -EINVAL);
	WANT(raw_process_mbind(-1, NULL, 0, zeroes, PAGE + 1, 0), -E2BIG);
	WANT(raw_process_mbind(-1, NULL, 0, NULL, MPOL_ARGS_SIZE_VER0 - 1, 0), -EINVAL);
	WANT(raw_process_mbind(-1, NULL, 0, NULL, MPOL_ARGS_SIZE_VER0, 0), -EFAULT);
	WANT(raw_process_mbind(-1, NULL, 0, zeroes, MPOL_ARGS_SIZE_VER0, 0), -EBADF);
	WANT(raw_process_mbind(self, NULL, 0, zeroes, MPOL_ARGS_SIZE_VER0, 0), 0);
	return true;
}

/*
 * A mode that only prefers must not fall back to nodes the target may not use. Here node 2
 * falls back to node 1 first, which is out of bounds; in the selftests' machines all are
 * equally far away.
 */
static bool nearest_node_no_escape(void)
{
	struct target target = target_start(0);
	unsigned long addr;
	long moved;

	CHECK(confine("full", "0,2", target.pid));
	addr = target_map_full(&target, LARGE);
	WANT(pages_on(target.pid, addr, LARGE, 0), LARGE_PAGES);
	WANT(process_mbind(target.pidfd, addr, LARGE, PREFERRED, 1 << 2, MOVE), LARGE);
	moved = pages_on(target.pid, addr, LARGE, 2);
	CHECK(moved > 0);
	WANT(pages_on(target.pid, addr, LARGE, 1), 0);
	WANT(pages_on(target.pid, addr, LARGE, 0), LARGE_PAGES - moved);
	return true;
}

static const struct test_case cases[] = {
	{ "sysfs_announcement", sysfs_announcement },
	{ "later_numbers_enosys", later_numbers_enosys },
	{ "signature", signature },
	{ "nearest_node_no_escape", nearest_node_no_escape },
};

int main(void)
{
	mount_all();
	run_cases(cases, sizeof(cases) / sizeof(cases[0]));
	power_off();
}
