/* SPDX-License-Identifier: Apache-2.0 */
/* /init of a machine with one NUMA node and a CXL memory device that is not in use yet. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cxl_region.h"
#include "guest.h"
#include "target.h"

#define SIZE (4UL << 20)
#define PAGES (SIZE / PAGE)
#define FUTURE (16 * PAGE)

/* Number of the kernel's memory tier that holds exactly this node, else -1. */
static int tier_of(int node)
{
	int tier = -1;
	glob_t found;

	if (glob("/sys/devices/virtual/memory_tiering/memory_tier*/nodelist", 0, NULL, &found))
		return -1;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char *end;
		const char *nodes = read_line(found.gl_pathv[i]);

		if (strtol(nodes, &end, 10) == node && *end == 0)
			sscanf(strstr(found.gl_pathv[i], "memory_tier") + strlen("memory_tiering/"),
			       "memory_tier%d", &tier);
	}
	globfree(&found);
	return tier;
}

static bool region_becomes_node(void)
{
	CHECK(cxl_region_create());
	CHECK(cxl_region_node() > 0);
	return true;
}

static bool node_has_its_own_slower_tier(void)
{
	int node = cxl_region_node();

	printf("# node %d in memory_tier%d, node 0 in memory_tier%d\n", node, tier_of(node),
	       tier_of(0));
	CHECK(tier_of(0) > 0);
	CHECK(tier_of(node) > tier_of(0));
	return true;
}

static bool four_mebibytes_move_there_and_back(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);
	int node = cxl_region_node();

	WANT(pages_on(target.pid, addr, SIZE, 0), PAGES);
	WANT(process_mbind(target.pidfd, addr, SIZE, PREFERRED_MANY, 1UL << node, MOVE), SIZE);
	WANT(pages_on(target.pid, addr, SIZE, node), PAGES);
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1, MOVE), SIZE);
	WANT(pages_on(target.pid, addr, SIZE, 0), PAGES);
	return true;
}

static bool future_pages_are_born_there(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map(&target, FUTURE);
	int node = cxl_region_node();

	WANT(process_mbind(target.pidfd, addr, FUTURE, BIND, 1UL << node, 0), FUTURE);
	target_touch(&target, addr, FUTURE);
	WANT(pages_on(target.pid, addr, FUTURE, node), FUTURE / PAGE);
	return true;
}

int main(void)
{
	static const struct test_case cases[] = {
		{ "region_becomes_node", region_becomes_node },
		{ "node_has_its_own_slower_tier", node_has_its_own_slower_tier },
		{ "four_mebibytes_move_there_and_back", four_mebibytes_move_there_and_back },
		{ "future_pages_are_born_there", future_pages_are_born_there },
	};

	mount_all();
	run_cases(cases, sizeof(cases) / sizeof(cases[0]));
	power_off();
}
