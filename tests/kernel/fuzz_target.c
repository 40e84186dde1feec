/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that fuzz.c works on. One thread maps, unmaps, moves, protects, forks and
 * executes itself anew, and knows what is in each page of its window; others read pages at
 * random, so that faults run under the lock of a VMA while policies and mappings change.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#define READERS 2

static uint64_t stamp[WINDOW_PAGES];	/* 0: zeroes */
static bool mapped[WINDOW_PAGES], writable[WINDOW_PAGES], common[WINDOW_PAGES];

static volatile uint64_t *word(size_t page)
{
	return (uint64_t *)(WINDOW + page * PAGE);
}

static void check_all(void)
{
	for (size_t i = 0; i < WINDOW_PAGES; i++)
		if (mapped[i] && *word(i) != stamp[i])
			_exit(CORRUPT);
}

static void write_some(size_t first, size_t count)
{
	for (size_t i = first; i < first + count; i++) {
		if (!mapped[i] || !writable[i])
			continue;
		stamp[i] = next() | 1;
		*word(i) = stamp[i];
	}
}

/* One in eight is shared memory, which has a policy of its own and is no private anonymous one. */
static void map_some(size_t first, size_t count)
{
	bool share = one_in(8);
	int how = (share ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_FIXED;

	if (mmap((void *)word(first), count * PAGE, PROT_READ | PROT_WRITE, how, -1, 0) == MAP_FAILED)
		return;
	for (size_t i = first; i < first + count; i++) {
		mapped[i] = writable[i] = true;
		common[i] = share;
		stamp[i] = 0;
	}
}

static void unmap_some(size_t first, size_t count)
{
	if (munmap((void *)word(first), count * PAGE))
		return;
	memset(mapped + first, 0, count * sizeof(*mapped));
}

static void protect_some(size_t first, size_t count)
{
	bool write = one_in(2);

	for (size_t i = first; i < first + count; i++)
		if (mapped[i] && !mprotect((void *)word(i), PAGE, PROT_READ | (write ? PROT_WRITE : 0)))
			writable[i] = write;
}

static void forget_some(size_t first, size_t count)
{
	for (size_t i = first; i < first + count; i++)
		if (mapped[i] && !common[i] && !madvise((void *)word(i), PAGE, MADV_DONTNEED))
			stamp[i] = 0;
}

/* One page, since the source has to be one mapping, and a failure must leave it as it was. */
static void move_one(size_t from, size_t count)
{
	size_t to = below(WINDOW_PAGES);

	if (to == from || !mapped[from])
		return;
	unmap_some(to, 1);
	if (mapped[to] || mremap((void *)word(from), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				 word(to)) == MAP_FAILED)
		return;
	mapped[to] = true;
	writable[to] = writable[from];
	common[to] = common[from];
	stamp[to] = stamp[from];
	mapped[from] = false;
	(void)count;
}

/* Grows the heap and shrinks it again; what is new is zeroes. */
static void use_heap(size_t first, size_t count)
{
	char *old = sbrk(count * PAGE);

	if (old == (void *)-1)
		return;
	for (size_t offset = 0; offset < count * PAGE; offset += PAGE) {
		if (old[offset])
			_exit(CORRUPT);
		old[offset] = 1;
	}
	sbrk(-(intptr_t)(count * PAGE));
	(void)first;
}

/* The other threads go with it, and all that was mapped. */
static void execute_anew(void)
{
	char seed[32];

	snprintf(seed, sizeof(seed), "%llu", (unsigned long long)next() | 1);
	execl("/proc/self/exe", "fuzz", "target", seed, NULL);
}

static void fork_one(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		/* What is shared is its parent's as well: look, but leave it alone */
		for (size_t i = 0; i < WINDOW_PAGES; i++)
			writable[i] &= !common[i];
		write_some(below(WINDOW_PAGES / 2), 16);
		check_all();
		_exit(0);
	}
	if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status))
		_exit(CORRUPT);
}

/* --- threads that fault pages in while the mappings change ------------------------------- */

static __thread sigjmp_buf after_fault;
static __thread bool may_fault;

/* The thread that maps faults only where it is wrong about its mappings: that ends it. */
static void on_fault(int number)
{
	if (may_fault)
		siglongjmp(after_fault, 1);
	signal(number, SIG_DFL);
}

static void try_to_read(size_t page)
{
	if (!sigsetjmp(after_fault, 1))
		(void)*word(page);
}

static void *read_forever(void *seed)
{
	uint64_t own = (uintptr_t)seed;

	may_fault = true;
	for (unsigned int i = 0;; i++) {
		own = own * 6364136223846793005ULL + 1442695040888963407ULL;
		try_to_read((own >> 33) % WINDOW_PAGES);
		if (i % 64 == 0)
			usleep(5000); /* the processors are for the callers */
	}
	return NULL;
}

static void start_readers(void)
{
	struct sigaction action = { .sa_handler = on_fault };
	pthread_t thread;

	if (sigaction(SIGSEGV, &action, NULL))
		_exit(1);
	for (int i = 0; i < READERS; i++)
		if (pthread_create(&thread, NULL, read_forever, (void *)(uintptr_t)(next() | 1)))
			_exit(1);
}

void be_target(uint64_t seed)
{
	static void (*const operations[])(size_t, size_t) = {
		map_some, map_some, write_some, write_some, unmap_some, protect_some, forget_some,
		move_one, use_heap,
	};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	random_state = seed;
	start_readers();
	for (;;) {
		size_t first = below(WINDOW_PAGES), count = 1 + below(WINDOW_PAGES - first);

		operations[below(sizeof(operations) / sizeof(*operations))](first, count);
		if (one_in(16))
			check_all();
		if (one_in(64))
			fork_one();
		if (one_in(256))
			execute_anew();
		usleep(300); /* the processors are for the callers */
	}
}
