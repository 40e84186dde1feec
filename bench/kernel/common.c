/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

long number = -1;

uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

void expect(const char *name, long got, long want)
{
	if (got == want)
		return;
	printf("ERROR %s: %ld, expected %ld\n", name, got, want);
	power_off();
}

long call(int pidfd, const struct iovec *vec, size_t vlen, int mode, uint64_t nodes,
	  unsigned int flags)
{
	struct mpol_args args = { .mode = mode, .maxnode = 64, .nodes = (unsigned long)&nodes };

	return syscall(number, pidfd, vec, vlen, &args, sizeof(args), flags);
}

struct page_list page_list(unsigned long addr, size_t len, size_t step)
{
	struct page_list list = { .count = len / step };

	list.pages = calloc(list.count, sizeof(*list.pages));
	list.nodes = calloc(list.count, sizeof(*list.nodes));
	list.status = calloc(list.count, sizeof(*list.status));
	for (size_t i = 0; i < list.count; i++)
		list.pages[i] = (void *)(addr + i * step);
	return list;
}

void page_list_free(struct page_list *list)
{
	free(list->pages);
	free(list->nodes);
	free(list->status);
}

void page_list_to(struct page_list *list, int node)
{
	for (size_t i = 0; i < list->count; i++)
		list->nodes[i] = node;
}

long move_listed(pid_t pid, struct page_list *list, size_t first, size_t count)
{
	return syscall(SYS_move_pages, pid, count, list->pages + first, list->nodes + first,
		       list->status + first, MOVE);
}

void huge_pages(bool on)
{
	write_file("/sys/kernel/mm/transparent_hugepage/enabled", on ? "always" : "never");
}

size_t huge_bytes(pid_t pid)
{
	char path[64], line[256];
	size_t kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "AnonHugePages: %zu kB", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib << 10;
}
