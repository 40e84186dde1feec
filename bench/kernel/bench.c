/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init of the machine that measures process_mbind() against the other calls that move
 * memory. Prints "TIME name round nanoseconds" for each measurement; "ERROR ..." if the
 * memory is not where a call was to put it, for then its time says nothing.
 *
 * Memory starts on node 0, where the processors are, and goes to node 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "guest.h"
#include "target.h"

#define RANGE (8 * PAGE)
#define MAX_RANGES 1024
#define STRIDE (2 * RANGE)

static const size_t counts[] = { 1, 16, 256, MAX_RANGES };
static int rounds = 7;

static void report(const char *name, int round, uint64_t start)
{
	uint64_t end = now();

	printf("TIME %s %d %llu\n", name, round, (unsigned long long)(end - start));
}

/* Back to node 0, and one mapping again. */
static void reset(int pidfd, unsigned long addr, size_t len)
{
	struct iovec whole = { (void *)addr, len };

	expect("reset", call(pidfd, &whole, 1, PREFERRED, 1, MOVE), len);
	expect("reset", call(pidfd, &whole, 1, DEFAULT, 0, 0), len);
}

static void ranges_of(struct iovec *vec, size_t count, unsigned long addr)
{
	for (size_t i = 0; i < count; i++)
		vec[i] = (struct iovec){ (void *)(addr + i * STRIDE), RANGE };
}

/* N mbind() by this process on its own memory, then one process_mbind() on the target's. */
static void against_mbind(struct target *target, unsigned long own, unsigned long theirs,
			  unsigned int flags)
{
	static struct iovec vec[MAX_RANGES];
	const char *how = flags ? "move" : "policy";
	size_t len = MAX_RANGES * STRIDE;
	int self = open_pidfd(getpid());
	unsigned long nodes = 1 << FAR_NODE;
	char name[64];
	uint64_t start;

	for (size_t c = 0; c < sizeof(counts) / sizeof(*counts); c++) {
		for (int round = 0; round < rounds; round++) {
			long failed = 0;

			snprintf(name, sizeof(name), "%s.%zu.mbind", how, counts[c]);
			start = now();
			for (size_t i = 0; i < counts[c]; i++)
				failed |= syscall(SYS_mbind, own + i * STRIDE, RANGE, BIND, &nodes, 64, flags);
			report(name, round, start);
			expect(name, failed, 0);
			snprintf(name, sizeof(name), "%s.%zu.process_mbind", how, counts[c]);
			ranges_of(vec, counts[c], theirs);
			start = now();
			failed = call(target->pidfd, vec, counts[c], BIND, nodes, flags);
			report(name, round, start);
			expect(name, failed, counts[c] * RANGE);
			if (flags) {
				long pages = counts[c] * RANGE / PAGE;

				expect("mbind moved", pages_on(getpid(), own, len, FAR_NODE), pages);
				expect(name, pages_on(target->pid, theirs, len, FAR_NODE), pages);
			}
			reset(self, own, len);
			reset(target->pidfd, theirs, len);
		}
	}
	close(self);
}

/* One way to move these ranges of the target, a list of their pages is another. */
static void against_list(struct target *target, const char *shape, struct iovec *vec,
			 size_t ranges, struct page_list *list)
{
	unsigned long addr = (unsigned long)vec->iov_base;
	size_t len = (char *)vec[ranges - 1].iov_base + vec[ranges - 1].iov_len - (char *)addr;
	size_t bytes = ranges * vec->iov_len;
	char name[64];
	uint64_t start;

	page_list_to(list, FAR_NODE);
	for (int turn = 0; turn < 2 * rounds; turn++) {
		int round = turn / 2;
		/* Each is the first in every other round */
		bool by_list = (turn + round) % 2 == 0;

		snprintf(name, sizeof(name), "%s.%s", shape, by_list ? "move_pages" : "process_mbind");
		start = now();
		if (by_list)
			move_listed(target->pid, list, 0, list->count);
		else
			call(target->pidfd, vec, ranges, BIND, 1 << FAR_NODE, MOVE);
		report(name, round, start);
		expect(name, pages_on(target->pid, addr, len, FAR_NODE), bytes / PAGE);
		reset(target->pidfd, addr, len);
	}
}

static void against_list_scattered(struct target *target, const char *shape, unsigned long addr)
{
	static struct iovec vec[MAX_RANGES];
	struct page_list list = page_list(addr, MAX_RANGES * RANGE, PAGE);

	ranges_of(vec, MAX_RANGES, addr);
	for (size_t i = 0; i < list.count; i++)
		list.pages[i] = (void *)(addr + i * PAGE / RANGE * STRIDE + i * PAGE % RANGE);
	against_list(target, shape, vec, MAX_RANGES, &list);
	page_list_free(&list);
}

/* One range, and an entry of the list for each page, be it huge. */
static void against_list_whole(struct target *target, const char *shape, unsigned long addr,
			       size_t len, size_t page)
{
	struct page_list list = page_list(addr, len, page);
	struct iovec whole = { (void *)addr, len };

	against_list(target, shape, &whole, 1, &list);
	page_list_free(&list);
}

/* All memory of a process that has little else. */
static void against_migrate_pages(struct target *target, const char *shape, unsigned long addr,
				  size_t len)
{
	unsigned long from = 1, to = 1 << FAR_NODE;
	char name[64];
	uint64_t start;

	for (int round = 0; round < rounds; round++) {
		snprintf(name, sizeof(name), "%s.migrate_pages", shape);
		start = now();
		syscall(SYS_migrate_pages, target->pid, 64, &from, &to);
		report(name, round, start);
		expect(name, pages_on(target->pid, addr, len, FAR_NODE), len / PAGE);
		reset(target->pidfd, addr, len);
	}
}

/* What a kernel without the series does as well: its price is that of the series. */
static void neighbours(void)
{
	unsigned long nodes = 1;
	size_t len = 16 * MIB;
	char *mine;
	uint64_t start;

	for (int round = 0; round < rounds; round++) {
		mine = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		madvise(mine, len, MADV_NOHUGEPAGE);
		start = now();
		for (size_t offset = 0; offset < len; offset += PAGE)
			mine[offset] = 1;
		report("fault.4096", round, start);
		start = now();
		for (int i = 0; i < 512; i++)
			syscall(SYS_mbind, mine + i * STRIDE, RANGE, BIND, &nodes, 64, 0);
		report("mbind.512", round, start);
		start = now();
		munmap(mine, len);
		report("munmap.4096", round, start);
		start = now();
		for (int i = 0; i < 512; i++)
			munmap(mmap(NULL, RANGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), RANGE);
		report("mmap.512", round, start);
	}
}

static unsigned long own_map(size_t len)
{
	char *addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(addr, 1, len);
	return (unsigned long)addr;
}

static void compare_huge(void)
{
	struct target target = target_start(0);
	size_t len = 128 * MIB;
	unsigned long block;

	huge_pages(true);
	block = (target_map_full(&target, len + HUGE) + HUGE - 1) & ~(HUGE - 1);
	huge_pages(false);
	expect("huge pages", huge_bytes(target.pid) >= len, true);
	against_list_whole(&target, "thp-128M", block, len, HUGE);
	expect("huge pages that stayed whole", huge_bytes(target.pid) >= len, true);
	target_end(&target);
}

static void compare(void)
{
	struct target target = target_start(0);
	size_t scattered = MAX_RANGES * STRIDE;
	unsigned long own = own_map(scattered), theirs = target_map_full(&target, scattered);
	unsigned long block;

	against_mbind(&target, own, theirs, 0);
	against_mbind(&target, own, theirs, MOVE);
	against_list_scattered(&target, "scattered-1024x32K", theirs);
	target_end(&target);
	munmap((void *)own, scattered);

	target = target_start(0);
	block = target_map_full(&target, 64 * MIB);
	against_list_whole(&target, "contiguous-64M", block, 64 * MIB, PAGE);
	against_migrate_pages(&target, "contiguous-64M", block, 64 * MIB);
	target_end(&target);

	target = target_start(0);
	block = target_map_full(&target, 1024 * MIB);
	against_list_whole(&target, "contiguous-1G", block, 1024 * MIB, PAGE);
	target_end(&target);
	compare_huge();
}

/* What a moved page costs, to be compared with another kernel. */
static void cost_of_a_page(void)
{
	struct target target = target_start(0);
	size_t len = 1024 * MIB;
	unsigned long block = target_map_full(&target, len);
	struct iovec whole = { (void *)block, len };

	for (int round = 0; round < rounds && round < 3; round++) {
		uint64_t start = now();
		long moved = call(target.pidfd, &whole, 1, BIND, 1 << FAR_NODE, MOVE);

		report("move.1G", round, start);
		expect("move.1G", moved, len);
		expect("move.1G", pages_on(target.pid, block, len, FAR_NODE), len / PAGE);
		reset(target.pidfd, block, len);
	}
	target_end(&target);
}

int main(void)
{
	mount_all();
	number = announced_number();
	if (getenv("rounds"))
		rounds = atoi(getenv("rounds"));
	if (getenv("cost")) {
		neighbours();
		if (number >= 0)
			cost_of_a_page();
	} else {
		expect("kernels with process_mbind()", number >= 0, true);
		compare();
	}
	printf("DONE\n");
	power_off();
}
