/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init that calls process_mbind() with structured random arguments, against processes
 * (fuzz_target.c) that change their mappings, fork, execute and are killed meanwhile, while
 * their cpuset and that of the callers change.
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

#include "fuzz.h"
#include "guest.h"

#define TARGETS 4
#define CALLERS 2
#define MAX_VEC 32
#define TELL_EVERY 100000
#define ALL_FLAGS (STRICT | MOVE | MOVE_ALL | HOME_NODE | MF_FUTURE | MF_FUTURE_EXEC)
#define MAX_ERRNO 4096

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

uint64_t random_state;

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
	random_state = seed;
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

/* What shows policies while they change */
static void read_files(pid_t pid)
{
	static const char *const names[] = { "numa_maps", "status", "smaps_rollup" };
	char path[64];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, names[i]);
		read_line(path);
	}
}

static bool disturb(void)
{
	static const char *const mems[] = { "0", "0-1", "0-2", "0,2" };
	int slot = below(TARGETS);

	write_file("/cg/fuzzed/cpuset.mems", mems[below(4)]);
	write_file("/cg/callers/cpuset.mems", mems[below(4)]);
	read_files(shared->target[slot]);
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
	long told = 0;

	random_state = seed | 1;
	for (int i = 0; i < TARGETS; i++)
		start_target(i);
	for (int i = 0; i < CALLERS; i++) {
		uint64_t own = next() | 1;

		callers[i] = fork();
		if (callers[i] == 0)
			be_caller(own, calls / CALLERS);
		confine("callers", "0-2", callers[i]);
	}
	while (left && good) {
		if (shared->calls >= told + TELL_EVERY)
			printf("# %ld calls so far\n", told = shared->calls);
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

int main(int argc, char **argv)
{
	bool good;

	if (argc == 3 && !strcmp(argv[1], "target"))
		be_target(strtoull(argv[2], NULL, 10));
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
