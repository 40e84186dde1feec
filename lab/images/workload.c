// SPDX-License-Identifier: Apache-2.0
/*
 * A program that knows nothing of memplace, with one region of each kind that
 * the tests want to see moved or left alone:
 *
 *   heap            16 MiB by brk
 *   anon:values     32 MiB, the memory a placement is about
 *   anon:io-buffers  8 MiB, the memory a placement excludes
 *   a mapped file    4 MiB, read only, from DIR/mapped
 *   a child process that shares all of it copy-on-write
 *
 * Every page carries a number that is checked again and again; a page that
 * changed ends the program with status 3, which a pod shows as a restart.
 *
 *   workload DIR        run as a container's first process
 *   workload touch MIB [MS [STATUS]]
 *                       map that much, half of it by brk, touch it at once, and
 *                       say where it is; end after MS, if given, with STATUS
 *   workload born       only say what this one has by default for mappings to come, which
 *                       one with DIR says first
 *   workload map|fork   from an exec in the same container: ask process 1 to map
 *                       16 MiB more ("anon:later"; by brk if it is to touch), or
 *                       to fork one more child
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define MIB (1024UL * 1024)
#define PAGE 4096UL
#define MAX_REGIONS 16

struct region {
	unsigned char *start;
	size_t size;
};

static struct region regions[MAX_REGIONS];
static size_t nr_regions;
static volatile sig_atomic_t want_map, want_fork;

static void die(const char *what)
{
	fprintf(stderr, "workload: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t stamp(size_t region, size_t page)
{
	return (region + 1) * 0x9e3779b97f4a7c15ULL + page;
}

/* Give every page its number, so that it exists and can be checked. */
static void fill(struct region *r, size_t index)
{
	for (size_t page = 0; page < r->size / PAGE; page++)
		*(uint64_t *)(r->start + page * PAGE) = stamp(index, page);
}

static void check_all(void)
{
	for (size_t i = 0; i < nr_regions; i++) {
		for (size_t page = 0; page < regions[i].size / PAGE; page++) {
			if (*(uint64_t *)(regions[i].start + page * PAGE) == stamp(i, page))
				continue;
			fprintf(stderr, "workload: region %zu page %zu changed\n", i, page);
			exit(3);
		}
	}
}

static void add(void *start, size_t size)
{
	struct region *r = &regions[nr_regions];

	r->start = start;
	r->size = size;
	fill(r, nr_regions++);
}

static void add_named(const char *name, size_t size)
{
	void *start = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		die("mmap");
	/* A kernel without CONFIG_ANON_VMA_NAME says EINVAL: then it has no name. */
	if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, start, size, name) && errno != EINVAL)
		die("PR_SET_VMA_ANON_NAME");
	add(start, size);
}

static void add_heap(size_t size)
{
	uintptr_t at = (uintptr_t)sbrk(0);
	size_t pad = -at & (PAGE - 1);

	if (sbrk((intptr_t)(size + pad)) == (void *)-1)
		die("sbrk");
	add((void *)(at + pad), size);
}

static void map_file(const char *dir)
{
	char path[256];
	static char page[PAGE];
	const unsigned char *start;
	unsigned int sum = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/mapped", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		die(path);
	for (size_t i = 0; i < 4 * MIB / PAGE; i++)
		if (write(fd, page, PAGE) != (ssize_t)PAGE)
			die("write");
	start = mmap(NULL, 4 * MIB, PROT_READ, MAP_PRIVATE, fd, 0);
	if (start == MAP_FAILED)
		die("mmap file");
	for (size_t i = 0; i < 4 * MIB; i += PAGE)
		sum += start[i];
	if (sum)
		exit(3);
	close(fd);
}

static void rest(void)
{
	struct timespec t = { .tv_nsec = 500 * 1000 * 1000 };

	nanosleep(&t, NULL);
}

static void start_child(void)
{
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (child)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
	/* Pages of its own: half of the values, written after the fork. */
	for (size_t page = 0; page < regions[1].size / PAGE / 2; page++) {
		unsigned char *at = regions[1].start + page * PAGE;

		*(uint64_t *)at = stamp(1, page);
		at[8]++;
	}
	for (;;) {
		check_all();
		rest();
	}
}

static void on_signal(int number)
{
	if (number == SIGUSR1)
		want_map = 1;
	else
		want_fork = 1;
}

/* The bytes of memory that has no file and is no stack, as the kernel counts them. */
static void tell(void)
{
	FILE *maps = fopen("/proc/self/numa_maps", "r");
	unsigned long pages[2] = { 0 };
	char line[512];

	if (!maps)
		die("numa_maps");
	while (fgets(line, sizeof(line), maps)) {
		if (!strstr(line, " anon=") || strstr(line, " file=") || strstr(line, " stack"))
			continue;
		for (int node = 0; node < 2; node++) {
			char key[] = { ' ', 'N', (char)('0' + node), '=', 0 };
			const char *found = strstr(line, key);

			pages[node] += found ? strtoul(found + 4, NULL, 10) : 0;
		}
	}
	fclose(maps);
	printf("touched: %lu bytes on node 0, %lu on node 1\n",
	       pages[0] * PAGE, pages[1] * PAGE);
}

static int ask(const char *what)
{
	int number = strcmp(what, "map") == 0 ? SIGUSR1 : SIGUSR2;

	if (kill(1, number))
		die("kill");
	return 0;
}

/* Whoever asks has signals; a changed page ends it. */
static int serve(int touches)
{
	for (;;) {
		if (want_map) {
			want_map = 0;
			if (touches)
				add_heap(16 * MIB);
			else
				add_named("later", 16 * MIB);
			puts("mapped");
		}
		if (want_fork) {
			want_fork = 0;
			start_child();
			puts("forked");
		}
		fflush(stdout);
		check_all();
		if (waitpid(-1, NULL, WNOHANG) > 0)
			return 3; /* a child found a changed page */
		rest();
	}
}

static int touch(int argc, char **argv)
{
	size_t half = strtoul(argv[0], NULL, 10) * MIB / 2;
	long ms = argc > 1 ? atol(argv[1]) : 0;
	struct timespec life = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	add_heap(half);
	add_named("touched", half);
	tell();
	fflush(stdout);
	if (argc == 1)
		return serve(1);
	nanosleep(&life, NULL);
	return argc > 2 ? atoi(argv[2]) : 0;
}

/* Print the default for mappings to come that this program was born with. */
static void say_default(void)
{
	char line[256];
	FILE *status = fopen("/proc/self/status", "r");

	while (status && fgets(line, sizeof(line), status))
		if (strncmp(line, "Mpol_future", strlen("Mpol_future")) == 0)
			fputs(line, stdout);
	fflush(stdout);
	if (status)
		fclose(status);
}

int main(int argc, char **argv)
{
	int touches = argc > 2 && argc < 6 && strcmp(argv[1], "touch") == 0;

	if (argc != 2 && !touches) {
		fprintf(stderr, "usage: workload DIR | touch MIB [MS [STATUS]] | map | fork | born\n");
		return 2;
	}
	if (strcmp(argv[1], "map") == 0 || strcmp(argv[1], "fork") == 0)
		return ask(argv[1]);
	if (!touches)
		say_default();
	if (strcmp(argv[1], "born") == 0)
		return 0;

	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	signal(SIGTERM, _exit);
	if (touches)
		return touch(argc - 2, argv + 2);
	add_heap(16 * MIB);
	add_named("values", 32 * MIB);
	add_named("io-buffers", 8 * MIB);
	map_file(argv[1]);
	start_child();
	puts("ready");
	return serve(0);
}
