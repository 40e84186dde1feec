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

#include "guest.h"
#include "target.h"

#define RANGE (8 * PAGE)
#define MAX_RANGES 1024
#define STRIDE (2 * RANGE)
#define MIB (1UL << 20)
#define FAR_NODE 1

static const size_t counts[] = { 1, 16, 256, MAX_RANGES };
static long number;
static int rounds = 7;

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

static void report(const char *name, int round, uint64_t start)
{
	uint64_t end = now();

	printf("TIME %s %d %llu\n", name, round, (unsigned long long)(end - start));
}

static void expect(const char *name, long got, long want)
{
	if (got != want)
		printf("ERROR %s: %ld, expected %ld\n", name, got, want);
}

/* One call, the number known beforehand: what a program does that calls more than once. */
static long call(int pidfd, const struct iovec *vec, size_t vlen, int mode, uint64_t nodes,
		 unsigned int flags)
{
	struct mpol_args args = { .mode = mode, .maxnode = 64, .nodes = (unsigned long)&nodes };

	return syscall(number, pidfd, vec, vlen, &args, sizeof(args), flags);
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

static long move_pages_of(pid_t pid, void **pages, const int *nodes, int *status, size_t count)
{
	return syscall(SYS_move_pages, pid, count, pages, nodes, status, MOVE);
}

/* The same pages of the target, by process_mbind() and by move_pages(). */
static void against_move_pages(struct target *target, const char *shape, unsigned long addr,
			       size_t len, size_t stride, size_t range)
{
	size_t ranges = len / stride, per = range / PAGE, count = ranges * per;
	struct iovec *vec = calloc(ranges, sizeof(*vec));
	void **pages = calloc(count, sizeof(*pages));
	int *nodes = calloc(count, sizeof(*nodes)), *status = calloc(count, sizeof(*status));
	char name[64];
	uint64_t start;

	for (size_t i = 0; i < ranges; i++) {
		vec[i] = (struct iovec){ (void *)(addr + i * stride), range };
		for (size_t p = 0; p < per; p++)
			pages[i * per + p] = (void *)(addr + i * stride + p * PAGE);
	}
	for (size_t i = 0; i < count; i++)
		nodes[i] = FAR_NODE;
	for (int round = 0; round < rounds; round++) {
		snprintf(name, sizeof(name), "%s.move_pages", shape);
		start = now();
		move_pages_of(target->pid, pages, nodes, status, count);
		report(name, round, start);
		expect(name, pages_on(target->pid, addr, len, FAR_NODE), count);
		reset(target->pidfd, addr, len);
		snprintf(name, sizeof(name), "%s.process_mbind", shape);
		start = now();
		call(target->pidfd, vec, ranges, BIND, 1 << FAR_NODE, MOVE);
		report(name, round, start);
		expect(name, pages_on(target->pid, addr, len, FAR_NODE), count);
		reset(target->pidfd, addr, len);
	}
	free(vec);
	free(pages);
	free(nodes);
	free(status);
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

static void compare(void)
{
	struct target target = target_start(0);
	size_t scattered = MAX_RANGES * STRIDE;
	unsigned long own = own_map(scattered), theirs = target_map_full(&target, scattered);
	unsigned long block;

	against_mbind(&target, own, theirs, 0);
	against_mbind(&target, own, theirs, MOVE);
	against_move_pages(&target, "scattered-1024x32K", theirs, scattered, STRIDE, RANGE);
	target_end(&target);
	munmap((void *)own, scattered);

	target = target_start(0);
	block = target_map_full(&target, 64 * MIB);
	against_move_pages(&target, "contiguous-64M", block, 64 * MIB, 64 * MIB, 64 * MIB);
	against_migrate_pages(&target, "contiguous-64M", block, 64 * MIB);
	target_end(&target);

	target = target_start(0);
	block = target_map_full(&target, 1024 * MIB);
	against_move_pages(&target, "contiguous-1G", block, 1024 * MIB, 1024 * MIB, 1024 * MIB);
	target_end(&target);
}

int main(void)
{
	mount_all();
	number = announced_number();
	if (getenv("rounds"))
		rounds = atoi(getenv("rounds"));
	neighbours();
	if (number >= 0 && !getenv("neighbours"))
		compare();
	printf("DONE\n");
	power_off();
}
