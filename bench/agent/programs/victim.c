// SPDX-License-Identifier: Apache-2.0
// A process with much memory that notes how long its own page faults and mmap() take.
//
//   victim MIB      prints "ready" when all of it was written to
//
// Every 0.5 ms it faults a page of its memory in anew, and maps and unmaps a page elsewhere.
// Each line of standard input has it print what it noted since the last one, in nanoseconds:
//
//   COUNT FAULT_P50 FAULT_P99 FAULT_WORST MMAP_P50 MMAP_P99 MMAP_WORST

#define _GNU_SOURCE
#include <err.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define MOST 400000

static int64_t faults[MOST], maps[MOST];
static size_t count;

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static char *map(size_t size)
{
	char *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		err(1, "mmap");
	return start;
}

static void sample(char *page)
{
	int64_t start;
	char *other;

	if (madvise(page, PAGE, MADV_DONTNEED))
		err(1, "madvise");
	start = now();
	*page = 1;
	faults[count] = now() - start;
	start = now();
	other = map(PAGE);
	*other = 1;
	if (munmap(other, PAGE))
		err(1, "munmap");
	maps[count++] = now() - start;
}

static int ascending(const void *left, const void *right)
{
	int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

	return (a > b) - (a < b);
}

static void print(int64_t *of)
{
	qsort(of, count, sizeof(*of), ascending);
	printf(" %lld %lld %lld", (long long)of[count / 2], (long long)of[count * 99 / 100],
	       (long long)of[count - 1]);
}

static void report(void)
{
	char line[16];

	if (read(0, line, sizeof(line)) <= 0)
		exit(0);
	printf("%zu", count);
	if (count) {
		print(faults);
		print(maps);
	}
	puts("");
	fflush(stdout);
	count = 0;
}

int main(int argc, char **argv)
{
	size_t size = (argc == 2 ? strtoul(argv[1], NULL, 10) : 0) << 20, next = 0;
	struct timespec pause = { 0, 500000 };
	char *memory;

	if (!size)
		errx(2, "usage: victim MIB");
	memory = map(size);
	for (size_t offset = 0; offset < size; offset += PAGE)
		memory[offset] = 1;
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct pollfd input = { 0, POLLIN, 0 };

		if (poll(&input, 1, 0) > 0)
			report();
		if (count < MOST)
			sample(memory + next);
		next = (next + 977 * PAGE) % size;
		nanosleep(&pause, NULL);
	}
}
