/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes a CXL memory device into use on a machine with one NUMA node. What processes can have
 * there the series' selftests show, which find a second node from then on.
 */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cxl_region.h"
#include "guest.h"

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

int main(void)
{
	static const struct test_case cases[] = {
		{ "region_becomes_node", region_becomes_node },
		{ "node_has_its_own_slower_tier", node_has_its_own_slower_tier },
	};

	mount_all();
	run_cases(cases, sizeof(cases) / sizeof(cases[0]));
	return 0;
}
