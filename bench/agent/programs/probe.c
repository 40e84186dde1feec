// SPDX-License-Identifier: Apache-2.0
// A program that maps something while it runs, and sees when somebody notices.
//
// Each line of standard input, "SECONDS", has it map and write 1 MiB. The answer is a line with
// three numbers, in nanoseconds from the mmap() on, -1 for what did not happen within these
// seconds:
//
//   policy   the mapping has a policy of its own
//   seen     the soft-dirty bit of its first page has been cleared: a tracker looked at it
//   moved    its first page is on node 1
//
// It ends waiting when the page moved, and the policy is there or the page was seen.

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1ul << 20)
#define MPOL_F_ADDR 2
#define SOFT_DIRTY (1ull << 55)

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static int has_policy(char *page)
{
	unsigned long nodes[16];
	int mode;

	if (syscall(SYS_get_mempolicy, &mode, nodes, 1024ul, page, MPOL_F_ADDR))
		err(1, "get_mempolicy");
	return mode != 0;
}

static int node_of(void *page)
{
	int node = -1;

	if (syscall(SYS_move_pages, 0, 1ul, &page, NULL, &node, 0))
		err(1, "move_pages");
	return node;
}

static int was_seen(int pagemap, char *page)
{
	uint64_t entry;

	if (pread(pagemap, &entry, 8, (uintptr_t)page / 4096 * 8) != 8)
		err(1, "pagemap");
	return !(entry & SOFT_DIRTY);
}

static void probe(int pagemap, int64_t limit)
{
	int64_t start = now(), policy = -1, seen = -1, moved = -1;
	char *page = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		err(1, "mmap");
	if (has_policy(page))
		policy = now() - start;
	memset(page, 1, SIZE);
	while (now() - start < limit) {
		struct timespec pause = { 0, 500000 };

		if (policy < 0 && has_policy(page))
			policy = now() - start;
		if (seen < 0 && was_seen(pagemap, page))
			seen = now() - start;
		if (moved < 0 && node_of(page) == 1)
			moved = now() - start;
		if ((policy >= 0 || seen >= 0) && moved >= 0)
			break;
		nanosleep(&pause, NULL);
	}
	printf("%lld %lld %lld\n", (long long)policy, (long long)seen, (long long)moved);
	fflush(stdout);
	// The mapping stays: its end would be one more change for who looks.
}

int main(void)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	double seconds;

	if (pagemap < 0)
		err(1, "pagemap");
	puts("ready");
	fflush(stdout);
	while (scanf("%lf", &seconds) == 1)
		probe(pagemap, (int64_t)(seconds * 1e9));
	return 0;
}
