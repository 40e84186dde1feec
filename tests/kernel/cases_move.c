/* SPDX-License-Identifier: Apache-2.0 */
/* What the call is for: pages that exist move, and pages to come follow the policy. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cases.h"
#include "guest.h"
#include "target.h"

#define PAGES 256
#define SIZE (PAGES * PAGE)

bool self_bind_future_pages(void)
{
	char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long addr = (unsigned long)memory;

	WANT(process_mbind(open_pidfd(getpid()), addr, SIZE, BIND, 1 << 1, 0), SIZE);
	memset(memory, 1, SIZE);
	WANT(pages_on(getpid(), addr, SIZE, 1), PAGES);
	return true;
}

static bool moves(struct target *target, unsigned long addr, int mode)
{
	WANT(pages_on(target->pid, addr, SIZE, 0), PAGES);
	WANT(process_mbind(target->pidfd, addr, SIZE, mode, 1 << 1, MOVE), SIZE);
	WANT(pages_on(target->pid, addr, SIZE, 1), PAGES);
	return true;
}

bool remote_bind_moves_anon(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);

	CHECK(moves(&target, addr, BIND));
	CHECK(!strcmp(policy_of(target.pid, addr), "bind:1"));
	return true;
}

bool remote_bind_moves_heap(void)
{
	struct target target = target_start(0);

	CHECK(moves(&target, target_heap(&target, SIZE), BIND));
	return true;
}

bool remote_preferred_many_moves(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);

	CHECK(moves(&target, addr, PREFERRED_MANY));
	CHECK(!strcmp(policy_of(target.pid, addr), "prefer (many):1"));
	return true;
}

bool remote_interleave_moves(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);

	WANT(process_mbind(target.pidfd, addr, SIZE, INTERLEAVE, 1 << 1 | 1 << 2, MOVE), SIZE);
	WANT(pages_on(target.pid, addr, SIZE, 1), PAGES / 2);
	WANT(pages_on(target.pid, addr, SIZE, 2), PAGES / 2);
	return true;
}

bool remote_bind_future_pages(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map(&target, SIZE);

	target_touch(&target, addr, SIZE / 2);
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, 0), SIZE);
	target_touch(&target, addr, SIZE);
	WANT(pages_on(target.pid, addr, SIZE / 2, 0), PAGES / 2);
	WANT(pages_on(target.pid, addr + SIZE / 2, SIZE / 2, 1), PAGES / 2);
	return true;
}

bool remote_default_resets(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map(&target, SIZE);

	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, 0), SIZE);
	WANT(process_mbind(target.pidfd, addr, SIZE, DEFAULT, 0, 0), SIZE);
	target_touch(&target, addr, SIZE);
	CHECK(!strcmp(policy_of(target.pid, addr), "default"));
	WANT(pages_on(target.pid, addr, SIZE, 0), PAGES);
	return true;
}

bool policy_survives_fork(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map(&target, SIZE);
	pid_t child;

	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, 0), SIZE);
	child = target_fork(&target, addr, SIZE);
	CHECK(child > 0);
	CHECK(!strcmp(policy_of(child, addr), "bind:1"));
	WANT(pages_on(child, addr, SIZE, 1), PAGES);
	WANT(pages_on(target.pid, addr, SIZE, -1), PAGES);
	return true;
}

bool move_leaves_shared_pages(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);

	CHECK(target_fork(&target, 0, 0) > 0);
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, MOVE), SIZE);
	WANT(pages_on(target.pid, addr, SIZE, 0), PAGES);
	return true;
}

bool move_all_takes_shared_pages(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);
	pid_t child = target_fork(&target, 0, 0);

	CHECK(child > 0);
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, MOVE_ALL), SIZE);
	WANT(pages_on(target.pid, addr, SIZE, 1), PAGES);
	WANT(pages_on(child, addr, SIZE, 1), PAGES);
	return true;
}

bool hole_efault(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);

	WANT(process_mbind(target.pidfd, addr, SIZE + PAGE, BIND, 1 << 1, MOVE), -EFAULT);
	WANT(process_mbind(target.pidfd, addr - PAGE, PAGE, BIND, 1 << 1, 0), -EFAULT);
	return true;
}

bool partial_return(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);
	uint64_t nodes = 1 << 1;
	struct mpol_args args = { .mode = BIND, .maxnode = 64, .nodes = (unsigned long)&nodes };
	struct iovec ranges[3] = {
		{ (void *)addr, SIZE / 2 },
		{ (void *)(addr + SIZE), PAGE },
		{ (void *)(addr + SIZE / 2), SIZE / 2 },
	};

	WANT(raw_process_mbind(target.pidfd, ranges, 3, &args, 24, MOVE), SIZE / 2);
	WANT(pages_on(target.pid, addr, SIZE / 2, 1), PAGES / 2);
	WANT(pages_on(target.pid, addr + SIZE / 2, SIZE / 2, 0), PAGES / 2);
	return true;
}

bool vector_of_1024(void)
{
	static struct iovec ranges[1024];
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, 2048 * PAGE);
	uint64_t nodes = 1 << 1;
	struct mpol_args args = { .mode = BIND, .maxnode = 64, .nodes = (unsigned long)&nodes };

	for (int i = 0; i < 1024; i++)
		ranges[i] = (struct iovec){ (void *)(addr + 2 * i * PAGE), PAGE };
	WANT(raw_process_mbind(target.pidfd, ranges, 1024, &args, 24, MOVE), 1024 * PAGE);
	WANT(pages_on(target.pid, addr, 2048 * PAGE, 1), 1024);
	WANT(pages_on(target.pid, addr, 2048 * PAGE, 0), 1024);
	return true;
}

bool caller_untouched(void)
{
	struct target target;
	char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long addr = (unsigned long)memory;

	/* The target inherits the mapping at the same address, and then gets its own pages */
	target = target_start(0);
	memset(memory, 1, SIZE);
	target_touch(&target, addr, SIZE);
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, MOVE), SIZE);
	WANT(pages_on(target.pid, addr, SIZE, 1), PAGES);
	WANT(pages_on(getpid(), addr, SIZE, 0), PAGES);
	return true;
}
