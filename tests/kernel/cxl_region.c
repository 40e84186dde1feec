/* SPDX-License-Identifier: Apache-2.0 */
#include "cxl_region.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

#define BUS "/sys/bus/cxl/devices/"
#define WAIT_SECONDS 60
#define TICK_US 100000

/* Waits for a path that matches, and returns the first one in a static buffer, else NULL. */
static const char *wait_for(const char *pattern)
{
	static char path[256];

	for (int tick = 0; tick < WAIT_SECONDS * 1000000 / TICK_US; tick++) {
		glob_t found;

		if (glob(pattern, 0, NULL, &found) == 0) {
			snprintf(path, sizeof(path), "%s", found.gl_pathv[0]);
			globfree(&found);
			return path;
		}
		usleep(TICK_US);
	}
	printf("# waited %d s for %s\n", WAIT_SECONDS, pattern);
	return NULL;
}

static bool set(const char *directory, const char *attribute, const char *value)
{
	char path[384];

	snprintf(path, sizeof(path), "%s/%s", directory, attribute);
	return write_file(path, value);
}

/* Links the endpoint decoder into the region and switches both on. */
static bool commit(const char *region_name, const char *decoder, const char *size)
{
	char region[128];

	snprintf(region, sizeof(region), BUS "%s", region_name);
	return set(region, "interleave_granularity", "256") &&
	       set(region, "interleave_ways", "1") && set(region, "size", size) &&
	       set(decoder, "mode", "ram") && set(decoder, "dpa_size", size) &&
	       set(region, "target0", strrchr(decoder, '/') + 1) && set(region, "commit", "1") &&
	       write_file("/sys/bus/cxl/drivers/cxl_region/bind", region_name);
}

bool cxl_region_create(void)
{
	char region[64], size[64], decoder[256];
	const char *path = wait_for(BUS "mem0/ram/size");

	if (!path)
		return false;
	snprintf(size, sizeof(size), "%s", read_line(path));
	/* The first decoder of the endpoint that belongs to the memory device */
	path = wait_for(BUS "root0/port*/endpoint*/decoder*.0");
	if (!path)
		return false;
	snprintf(decoder, sizeof(decoder), "%s", path);
	snprintf(region, sizeof(region), "%s", read_line(BUS "decoder0.0/create_ram_region"));
	return write_file(BUS "decoder0.0/create_ram_region", region) &&
	       commit(region, decoder, size);
}

int cxl_region_node(void)
{
	char pattern[96];
	const char *path = wait_for("/sys/bus/dax/devices/dax*/target_node");
	int node;

	if (!path)
		return -1;
	node = atoi(read_line(path));
	/* Memory blocks come online one by one */
	snprintf(pattern, sizeof(pattern), "/sys/devices/system/node/node%d/memory*/state", node);
	path = wait_for(pattern);
	for (int tick = 0; path && tick < WAIT_SECONDS * 1000000 / TICK_US; tick++) {
		if (!strcmp(read_line(path), "online"))
			return node;
		usleep(TICK_US);
	}
	return -1;
}
