/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing leaves a cpuset, neither the target's nor the caller's. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cases.h"
#include "guest.h"
#include "target.h"

#define PAGES 128
#define SIZE (PAGES * PAGE)
/* More than node 2 has */
#define LARGE_PAGES (80UL * 256)
#define LARGE (LARGE_PAGES * PAGE)

bool target_clips_nodes(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);

	CHECK(confine("clips", "0-1", target.pid));
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1 | 1 << 2, MOVE), SIZE);
	CHECK(!strcmp(policy_of(target.pid, addr), "bind:1"));
	WANT(pages_on(target.pid, addr, SIZE, 1), PAGES);
	return true;
}

bool target_excludes_all_nodes(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);

	CHECK(confine("excludes", "0,2", target.pid));
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, MOVE), -EINVAL);
	WANT(process_mbind(target.pidfd, addr, SIZE, PREFERRED_MANY, 1 << 1, 0), -EINVAL);
	CHECK(!strcmp(policy_of(target.pid, addr), "default"));
	WANT(pages_on(target.pid, addr, SIZE, 0), PAGES);
	return true;
}

bool rebind_after_target_change(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map(&target, SIZE);

	CHECK(confine("rebind", "0-1", target.pid));
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, 0), SIZE);
	CHECK(write_file("/cg/rebind/cpuset.mems", "0,2"));
	CHECK(!strcmp(policy_of(target.pid, addr), "bind:2"));
	target_touch(&target, addr, SIZE);
	WANT(pages_on(target.pid, addr, SIZE, 2), PAGES);
	return true;
}

/*
 * The page allocator looks at the cpuset of whoever moves the pages. An implementation that only
 * replaces the mm moves all of them to node 0, outside the policy and the target's cpuset, and
 * reports success.
 */
bool caller_cpuset_no_escape(void)
{
	static const int modes[] = { PREFERRED, BIND, INTERLEAVE, PREFERRED_MANY };
	struct target target = target_start(0);
	unsigned long addr;

	CHECK(confine("escape-target", "1-2", target.pid));
	addr = target_map_full(&target, SIZE);
	WANT(pages_on(target.pid, addr, SIZE, 1), PAGES);
	CHECK(confine("escape-caller", "0", getpid()));
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		long result = process_mbind(target.pidfd, addr, SIZE, modes[i], 1 << 2, MOVE);

		WANT(pages_on(target.pid, addr, SIZE, 0), 0);
		WANT(pages_on(target.pid, addr, SIZE, 1), PAGES);
		WANT(result, -EINVAL);
	}
	CHECK(!strcmp(policy_of(target.pid, addr), "default"));
	return true;
}

bool caller_cpuset_nomove_allowed(void)
{
	struct target target = target_start(0);
	unsigned long addr;

	CHECK(confine("nomove-target", "1-2", target.pid));
	addr = target_map(&target, SIZE);
	CHECK(confine("nomove-caller", "0", getpid()));
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 2, 0), SIZE);
	target_touch(&target, addr, SIZE);
	WANT(pages_on(target.pid, addr, SIZE, 2), PAGES);
	return true;
}

/* A mode that only prefers must not fall back to nodes the target may not use. */
bool full_node_no_escape(void)
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
