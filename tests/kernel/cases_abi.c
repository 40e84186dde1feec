/* SPDX-License-Identifier: Apache-2.0 */
/* The interface: how the call is found, what it answers to arguments that make no sense. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cases.h"
#include "guest.h"
#include "target.h"

#define ANNOUNCED "/sys/kernel/mm/mempolicy/process_mbind/"

bool sysfs_announcement(void)
{
	WANT(announced_number(), 473);
	WANT(atol(read_line(ANNOUNCED "version")), 1);
	WANT(atol(read_line(ANNOUNCED "args_size")), sizeof(struct mpol_args));
	WANT(strtol(read_line(ANNOUNCED "flags"), NULL, 0),
	     STRICT | MOVE | MOVE_ALL | HOME_NODE | MF_FUTURE | MF_FUTURE_EXEC);
	return true;
}

/* The signature by which a program can tell the call from another of the same number: in this
 * order of checks, with arguments that are harmless to any call.
 */
bool errno_unknown_flag(void)
{
	WANT(raw_process_mbind(-1, NULL, 0, NULL, 0, ~0U), -EINVAL);
	WANT(raw_process_mbind(-1, NULL, 0, NULL, 24, LAZY), -EINVAL);
	return true;
}

bool errno_usize_over_page(void)
{
	static char zeroes[2 * PAGE];

	WANT(raw_process_mbind(-1, NULL, 0, zeroes, PAGE + 1, 0), -E2BIG);
	return true;
}

bool errno_usize_too_small(void)
{
	WANT(raw_process_mbind(-1, NULL, 0, NULL, 23, 0), -EINVAL);
	return true;
}

bool errno_args_fault(void)
{
	WANT(raw_process_mbind(-1, NULL, 0, NULL, 24, 0), -EFAULT);
	return true;
}

bool errno_bad_pidfd(void)
{
	struct mpol_args args = { .mode = DEFAULT };

	WANT(raw_process_mbind(-1, NULL, 0, &args, 24, 0), -EBADF);
	WANT(raw_process_mbind(STDOUT_FILENO, NULL, 0, &args, 24, 0), -EBADF);
	return true;
}

bool empty_vector(void)
{
	struct mpol_args args = { .mode = DEFAULT };

	WANT(raw_process_mbind(open_pidfd(getpid()), NULL, 0, &args, 24, 0), 0);
	return true;
}

bool larger_struct(void)
{
	char args[48] = { 0 };
	int self = open_pidfd(getpid());

	WANT(raw_process_mbind(self, NULL, 0, args, sizeof(args), 0), 0);
	args[40] = 1;
	WANT(raw_process_mbind(self, NULL, 0, args, sizeof(args), 0), -E2BIG);
	return true;
}

bool bad_policies(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, PAGE);
	struct iovec range = { (void *)addr, PAGE };
	struct mpol_args args = { .mode = 99 };

	WANT(raw_process_mbind(target.pidfd, &range, 1, &args, 24, 0), -EINVAL);
	args = (struct mpol_args){ .mode = BIND | 1 << 15 };
	WANT(raw_process_mbind(target.pidfd, &range, 1, &args, 24, 0), -EINVAL);
	args = (struct mpol_args){ .mode = BIND, .maxnode = 64, .nodes = 1 };
	WANT(raw_process_mbind(target.pidfd, &range, 1, &args, 24, 0), -EFAULT);
	WANT(process_mbind(target.pidfd, addr, PAGE, BIND, 0, 0), -EINVAL);
	WANT(process_mbind(target.pidfd, addr, PAGE, BIND, 1 << 9, 0), -EINVAL);
	WANT(process_mbind(target.pidfd, addr, PAGE, DEFAULT, 1, 0), -EINVAL);
	CHECK(!strcmp(policy_of(target.pid, addr), "default"));
	return true;
}

bool bad_vectors(void)
{
	static struct iovec many[1025];
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, 2 * PAGE);
	struct mpol_args args = { .mode = LOCAL };
	struct iovec huge[2] = { { (void *)addr, PAGE }, { (void *)addr, 1UL << 63 } };

	WANT(process_mbind(target.pidfd, addr + 1, PAGE, LOCAL, 0, 0), -EINVAL);
	WANT(raw_process_mbind(target.pidfd, many, 1025, &args, 24, 0), -EINVAL);
	WANT(raw_process_mbind(target.pidfd, (void *)1, 1, &args, 24, 0), -EFAULT);
	WANT(raw_process_mbind(target.pidfd, huge, 2, &args, 24, 0), -EINVAL);
	CHECK(!strcmp(policy_of(target.pid, addr), "default"));
	return true;
}

bool move_needs_nodes(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, PAGE);

	WANT(process_mbind(target.pidfd, addr, PAGE, DEFAULT, 0, MOVE), -EINVAL);
	WANT(process_mbind(target.pidfd, addr, PAGE, LOCAL, 0, MOVE), -EINVAL);
	WANT(process_mbind(target.pidfd, addr, PAGE, PREFERRED, 0, MOVE_ALL), -EINVAL);
	WANT(process_mbind(target.pidfd, addr, PAGE, LOCAL, 0, 0), PAGE);
	CHECK(!strcmp(policy_of(target.pid, addr), "local"));
	return true;
}

bool maxnode_counts_bits(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map(&target, PAGE);
	struct iovec range = { (void *)addr, PAGE };
	uint64_t nodes = 1 << 1;
	struct mpol_args args = { .mode = BIND, .maxnode = 2, .nodes = (unsigned long)&nodes };

	WANT(raw_process_mbind(target.pidfd, &range, 1, &args, 24, 0), PAGE);
	CHECK(!strcmp(policy_of(target.pid, addr), "bind:1"));
	args.maxnode = 1;
	WANT(raw_process_mbind(target.pidfd, &range, 1, &args, 24, 0), -EINVAL);
	return true;
}

bool home_node(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map(&target, 8 * PAGE);
	struct iovec range = { (void *)addr, 8 * PAGE };
	uint64_t nodes = 1 << 0 | 1 << 1 | 1 << 2;
	struct mpol_args args = {
		.mode = BIND, .home_node = 2, .maxnode = 64, .nodes = (unsigned long)&nodes,
	};

	WANT(raw_process_mbind(target.pidfd, &range, 1, &args, 24, 0), -EINVAL);
	WANT(raw_process_mbind(target.pidfd, &range, 1, &args, 24, HOME_NODE), 8 * PAGE);
	target_touch(&target, addr, 8 * PAGE);
	WANT(pages_on(target.pid, addr, 8 * PAGE, 2), 8);
	args.home_node = 50;
	WANT(raw_process_mbind(target.pidfd, &range, 1, &args, 24, HOME_NODE), -EINVAL);
	args = (struct mpol_args){ .mode = INTERLEAVE, .maxnode = 64, .nodes = args.nodes };
	WANT(raw_process_mbind(target.pidfd, &range, 1, &args, 24, HOME_NODE), -EINVAL);
	return true;
}
