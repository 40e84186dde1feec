/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes each allocation of a process_mbind() fail in turn: the first, then the second, until a
 * call gets by without a failure; then those of a process that has a default (faults_default.c).
 * Needs CONFIG_FAULT_INJECTION.
 *
 * What has to hold: the call says -ENOMEM, or how much it did; every page of the target is
 * there with what was in it; the same call without a failure then does everything. In the
 * end kmemleak has found nothing.
 *
 * Source: Documentation/fault-injection/fault-injection.rst, fail-nth.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "faults.h"
#include "guest.h"
#include "target.h"

#define RANGES 8
#define RANGE (4 * PAGE)
#define STRIDE (2 * RANGE)
#define LEN (RANGES * STRIDE)
#define MOST 2000

struct attempt {
	int mode;
	uint64_t nodes;
	unsigned int flags;
	size_t ranges;
};

static long number;

/* The call with its nth allocation failing; whether one did is in *hit. nth 0: none does. */
static long call(int pidfd, unsigned long addr, const struct attempt *attempt, int nth, bool *hit)
{
	struct mpol_args args = {
		.mode = attempt->mode, .maxnode = 64, .nodes = (unsigned long)&attempt->nodes,
	};
	struct iovec vec[RANGES];
	struct failure failure;
	long result;

	for (size_t i = 0; i < attempt->ranges; i++)
		vec[i] = (struct iovec){ (void *)(addr + i * STRIDE), RANGE };
	fail_start(&failure, nth);
	result = syscall(number, pidfd, vec, attempt->ranges, &args, sizeof(args), attempt->flags);
	result = result < 0 ? -errno : result;
	*hit = fail_end(&failure);
	return result;
}

/* Every page is there, and has the byte that the target wrote. */
static bool intact(const struct target *target, unsigned long addr)
{
	WANT(pages_on(target->pid, addr, LEN, -1), 0);
	for (size_t offset = 0; offset < LEN; offset += PAGE) {
		char byte = 0;
		struct iovec here = { &byte, 1 }, there = { (void *)(addr + offset), 1 };

		WANT(process_vm_readv(target->pid, &here, 1, &there, 1, 0), 1);
		WANT(byte, 1);
	}
	return true;
}

static bool expected(const struct attempt *attempt, long result)
{
	if (result == -ENOMEM)
		return true;
	/* A page that found no room is what MPOL_MF_STRICT is to tell of */
	if (result == -EIO)
		return attempt->flags & STRICT;
	return result >= 0 && result <= (long)(attempt->ranges * RANGE) && result % RANGE == 0;
}

/* One target, one failure; *hit says whether there still was an nth allocation. */
static bool fail_nth(const struct attempt *attempt, int nth, bool *hit)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, LEN);
	long total = attempt->ranges * RANGE, result;
	bool none;

	result = call(target.pidfd, addr, attempt, nth, hit);
	if (!expected(attempt, result))
		printf("# allocation %d: %ld\n", nth, result);
	CHECK(expected(attempt, result));
	CHECK(*hit || result == total);
	CHECK(intact(&target, addr));
	WANT(call(target.pidfd, addr, attempt, 0, &none), total);
	CHECK(intact(&target, addr));
	if (attempt->flags & MOVE)
		WANT(pages_on(target.pid, addr, LEN, 1), attempt->ranges * RANGE / PAGE);
	target_end(&target);
	close(target.pidfd);
	return true;
}

static bool each_allocation(const struct attempt *attempt)
{
	bool hit = true;
	int nth = 0;

	while (hit && nth < MOST)
		CHECK(fail_nth(attempt, ++nth, &hit));
	printf("# %d allocations failed, one at a time\n", nth - 1);
	CHECK(nth > 1 && nth < MOST);
	return true;
}

static bool policy(void)
{
	return each_allocation(&(struct attempt){ BIND, 2, 0, RANGES });
}

static bool interleave(void)
{
	return each_allocation(&(struct attempt){ INTERLEAVE, 3, 0, RANGES });
}

static bool move(void)
{
	return each_allocation(&(struct attempt){ BIND, 2, MOVE, RANGES });
}

static bool move_strict(void)
{
	return each_allocation(&(struct attempt){ BIND, 2, MOVE | STRICT, RANGES });
}

static bool future(void)
{
	return each_allocation(&(struct attempt){ PREFERRED_MANY, 2, MF_FUTURE, 0 });
}

static bool future_and_ranges(void)
{
	return each_allocation(&(struct attempt){ BIND, 2, MF_FUTURE | MF_FUTURE_EXEC | MOVE, RANGES });
}

static const struct test_case cases[] = {
	{ "policy", policy },		{ "interleave", interleave },
	{ "move", move },		{ "move_strict", move_strict },
	{ "future", future },		{ "future_and_ranges", future_and_ranges },
	{ "default_mmap", default_mmap }, { "default_brk", default_brk },
	{ "default_fork", default_fork }, { "default_execve", default_execve },
	{ "nothing_leaked", nothing_leaked },
};

/* Allocations that may sleep fail as well, silently. */
static void prepare(void)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc" };
	char path[64];

	watch_leaks();
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), DEBUG "/%s/ignore-gfp-wait", kinds[i]);
		write_file(path, "N");
		snprintf(path, sizeof(path), DEBUG "/%s/verbose", kinds[i]);
		write_file(path, "0");
	}
	write_file(DEBUG "/fail_page_alloc/min-order", "0");
	write_file(DEBUG "/fail_page_alloc/ignore-gfp-highmem", "N");
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], EXECUTED))
		return be_executed();
	mount_all();
	number = announced_number();
	prepare();
	run_cases(cases, sizeof(cases) / sizeof(*cases));
	return 0;
}
