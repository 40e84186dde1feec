/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a program finds the call, which is memplace's own: upstream would give it a number. What
 * of the announcement is for the policy of mappings to come, and for PROCMAP_QUERY, the series'
 * selftests have (future.announced, query.announced), as each check of arguments alone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#define ANNOUNCED "/sys/kernel/mm/mempolicy/process_mbind/"
#define NUMBER 900
/* The first that later kernels of upstream may give to another call, and no selftest asks for */
#define LATER 474

static long announced(const char *file)
{
	const char *text = read_line(file);

	return *text ? strtol(text, NULL, 0) : -1;
}

static bool sysfs_announcement(void)
{
	WANT(announced(ANNOUNCED "nr"), NUMBER);
	WANT(announced(ANNOUNCED "version"), 2);
	WANT(announced(ANNOUNCED "flags"), ALL_FLAGS);
	return true;
}

/* A libc newer than the kernel calls these and relies on the answer. */
static bool later_numbers_enosys(void)
{
	struct mpol_args args = { .mode = DEFAULT };
	int self = open_pidfd(getpid());

	for (long nr = LATER; nr < NUMBER + 100; nr++) {
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

static const struct test_case cases[] = {
	{ "sysfs_announcement", sysfs_announcement },
	{ "later_numbers_enosys", later_numbers_enosys },
	{ "signature", signature },
};

int main(void)
{
	mount_all();
	run_cases(cases, sizeof(cases) / sizeof(cases[0]));
	return 0;
}
