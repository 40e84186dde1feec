/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init that calls process_mbind() with structured random arguments, against processes that
 * change their mappings, fork and are killed meanwhile, while their cpuset changes.
 *
 * Kernel command line: seed=N calls=N. What has to hold: every answer is one the manual page
 * names, what is plainly wrong is refused, a result counts no more than was asked for, and
 * no process finds other bytes in its memory than it wrote.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#define TARGETS 4
#define CALLERS 2
#define WINDOW_PAGES 512
#define WINDOW 0x200000000000UL
#define MAX_VEC 32
#define ALL_FLAGS (STRICT | MOVE | MOVE_ALL | HOME_NODE | MF_FUTURE | MF_FUTURE_EXEC)
#define MAX_ERRNO 4096
#define CORRUPT 77

/* Shared by all processes; the counters are only approximately right and only printed */
static struct shared {
	pid_t target[TARGETS];
	long calls, moved, answers[MAX_ERRNO], killed;
	bool stop;
} *shared;

static long number;
static const int answers_allowed[] = {
	EINVAL, EFAULT, EPERM, ESRCH, E2BIG, EBADF, EIO, ENOMEM,
};

/* xorshift64*: the same on every machine */
static uint64_t state;

static uint64_t next(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 2685821657736338717ULL;
}

static unsigned long below(unsigned long limit)
{
	return (next() >> 16) % limit;
}

static bool one_in(unsigned long n)
{
	return below(n) == 0;
}

/* --- a target: knows what is in each page of its window --------------------------------- */

static uint64_t stamp[WINDOW_PAGES];	/* 0: zeroes */
static bool mapped[WINDOW_PAGES], writable[WINDOW_PAGES];

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

static void map_some(size_t first, size_t count)
{
	int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

	if (mmap((void *)word(first), count * PAGE, PROT_READ | PROT_WRITE, how, -1, 0) == MAP_FAILED)
		return;
	for (size_t i = first; i < first + count; i++) {
		mapped[i] = writable[i] = true;
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
		if (mapped[i] && !madvise((void *)word(i), PAGE, MADV_DONTNEED))
			stamp[i] = 0;
}

static void fork_one(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		write_some(below(WINDOW_PAGES / 2), 16);
		check_all();
		_exit(0);
	}
	if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status))
		_exit(CORRUPT);
}

static void be_target(uint64_t seed)
{
	static void (*const operations[])(size_t, size_t) = {
		map_some, map_some, write_some, write_some, unmap_some, protect_some, forget_some,
	};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	state = seed;
	for (;;) {
		size_t first = below(WINDOW_PAGES), count = 1 + below(WINDOW_PAGES - first);

		operations[below(sizeof(operations) / sizeof(*operations))](first, count);
		if (one_in(16))
			check_all();
		if (one_in(64))
			fork_one();
	}
}

/* --- a caller ------------------------------------------------------------------------------ */

struct request {
	struct iovec vec[MAX_VEC];
	struct mpol_args args;
	char tail[8192];
	size_t vlen, usize;
	uint64_t nodes;
	unsigned int flags;
	size_t total;
};

static void make_range(struct iovec *range)
{
	size_t first = below(WINDOW_PAGES), count = 1 + below(one_in(8) ? WINDOW_PAGES : 32);

	range->iov_base = (void *)(WINDOW + first * PAGE);
	range->iov_len = count * PAGE;
	if (one_in(40))
		range->iov_base = (void *)next();
	if (one_in(40))
		range->iov_len = next();
	if (one_in(40))
		range->iov_len = 0;
}

static void make(struct request *r)
{
	static const uint16_t modes[] = { DEFAULT, PREFERRED, BIND, INTERLEAVE, LOCAL,
					  PREFERRED_MANY, 6 };

	memset(r, 0, sizeof(*r));
	r->vlen = below(MAX_VEC + 1);
	for (size_t i = 0; i < r->vlen; i++) {
		make_range(&r->vec[i]);
		if (__builtin_add_overflow(r->total, r->vec[i].iov_len, &r->total))
			r->total = SIZE_MAX / 2;
	}
	r->nodes = one_in(20) ? next() : below(8);
	r->args.mode = one_in(20) ? next() : modes[below(sizeof(modes) / sizeof(*modes))];
	r->args.mode_flags = one_in(4) ? 1 << (13 + below(3)) : 0;
	r->args.maxnode = one_in(20) ? next() : 64;
	r->args.nodes = one_in(40) ? next() : (unsigned long)&r->nodes;
	r->flags = one_in(20) ? next() : next() & ALL_FLAGS & (one_in(4) ? ~0U : ~(unsigned int)(STRICT | HOME_NODE));
	if ((r->flags & HOME_NODE) && one_in(2))
		r->args.home_node = below(4);
	if (r->args.mode == DEFAULT || r->args.mode == LOCAL)
		r->nodes = one_in(8) ? r->nodes : 0;
	r->usize = one_in(20) ? below(8192) : sizeof(r->args);
}

static const char *wrong(const struct request *r, long result)
{
	if (result < 0) {
		for (size_t i = 0; i < sizeof(answers_allowed) / sizeof(*answers_allowed); i++)
			if (answers_allowed[i] == -result)
				goto known;
		return "an errno that the manual does not name";
	}
known:
	if ((r->flags & ~ALL_FLAGS) && result != -EINVAL)
		return "unknown flags were not refused";
	if (!(r->flags & ~ALL_FLAGS) && r->usize > PAGE && result != -E2BIG && result != -EINVAL)
		return "a structure larger than a page was not refused";
	if (r->usize < sizeof(r->args) && result != -EINVAL)
		return "a structure too small was not refused";
	if (result > 0 && (size_t)result > r->total + r->vlen * PAGE)
		return "the result is more than was asked for";
	return NULL;
}

static void be_caller(uint64_t seed, long calls)
{
	static struct request r;
	const char *why;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	state = seed;
	for (long i = 0; i < calls; i++) {
		pid_t pid = shared->target[below(TARGETS)];
		int pidfd = one_in(50) ? (int)below(100) : open_pidfd(pid);
		long result;

		make(&r);
		result = syscall(number, pidfd, r.vec, r.vlen, &r.args, r.usize, r.flags);
		result = result < 0 ? -errno : result;
		why = wrong(&r, result);
		if (why) {
			printf("# call %ld: result %ld, flags %#x, usize %zu: %s\n", i, result, r.flags,
			       r.usize, why);
			_exit(1);
		}
		shared->calls++;
		if (result < 0)
			shared->answers[-result]++;
		else if (result > 0 && (r.flags & (MOVE | MOVE_ALL)))
			shared->moved++;
		if (pidfd > 2)
			close(pidfd);
	}
	_exit(0);
}

/* --- the machine ----------------------------------------------------------------------------- */

static void start_target(int slot)
{
	uint64_t seed = next() | 1;
	pid_t pid = fork();

	if (pid == 0)
		be_target(seed);
	confine("fuzzed", "0-2", pid);
	shared->target[slot] = pid;
}

/* Whether the process that was killed was still running, hence had found all its bytes. */
static bool end_target(int slot)
{
	int status;
	pid_t pid = shared->target[slot];

	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		return false;
	shared->killed++;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return true;
	printf("# target ended with status %#x\n", status);
	return false;
}

static bool disturb(void)
{
	static const char *const mems[] = { "0", "0-1", "0-2", "0,2" };
	int slot = below(TARGETS);

	write_file("/cg/fuzzed/cpuset.mems", mems[below(4)]);
	usleep(20000);
	if (!one_in(8))
		return true;
	if (!end_target(slot))
		return false;
	start_target(slot);
	return true;
}

static long setting(const char *name, long otherwise)
{
	const char *value = getenv(name);

	return value ? atol(value) : otherwise;
}

static bool run(uint64_t seed, long calls)
{
	pid_t callers[CALLERS];
	int left = CALLERS, status;
	bool good = true;

	state = seed | 1;
	for (int i = 0; i < TARGETS; i++)
		start_target(i);
	for (int i = 0; i < CALLERS; i++) {
		uint64_t own = next() | 1;

		callers[i] = fork();
		if (callers[i] == 0)
			be_caller(own, calls / CALLERS);
	}
	while (left && good) {
		good = disturb();
		for (int i = 0; i < CALLERS; i++) {
			if (!callers[i] || waitpid(callers[i], &status, WNOHANG) != callers[i])
				continue;
			callers[i] = 0;
			left--;
			good &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
		}
	}
	for (int i = 0; i < TARGETS; i++)
		good &= end_target(i);
	return good;
}

int main(void)
{
	bool good;

	mount_all();
	number = announced_number();
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	good = number >= 0 && run(setting("seed", 1), setting("calls", 1000));
	for (int i = 0; i < MAX_ERRNO; i++)
		if (shared->answers[i])
			printf("# %s: %ld\n", strerror(i), shared->answers[i]);
	printf("# %ld calls, %ld of them moved memory, %ld targets killed\n", shared->calls,
	       shared->moved, shared->killed);
	printf("1..1\n%s 1 - fuzz\n", good ? "ok" : "not ok");
	power_off();
}
