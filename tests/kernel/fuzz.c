/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init that calls process_mbind() with structured random arguments, against processes
 * (fuzz_target.c) that change their mappings, fork, execute and are killed meanwhile, while
 * their cpusets and that of the callers change.
 *
 * Kernel command line: seed=N calls=N. What has to hold: every answer is one the manual page
 * names, what is plainly wrong is refused, a result counts no more than was asked for, no
 * process finds other bytes in its memory than it wrote, and no page of a process is ever on a
 * node that its cpuset never allowed, whatever the caller's cpuset allows.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
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
/* Most of the time of a call is waiting for the other processor */
#define CALLERS 8
#define TELL_EVERY 10000
#define MAX_ERRNO 4096
#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* Cgroups of targets, and the nodes that each of them never loses or never gets */
static const struct group {
	const char *name, *mems[4];
	unsigned int nodes;
} groups[] = {
	{ "low", { "0", "0-1", "0-2", "0,2" }, 0x7 },
	{ "high", { "1", "2", "1-2", "1-2" }, 0x6 },
};

/* Callers get around more than any target; where they meet none, they move nothing */
static const char *const callers_mems[] = { "0-3", "0-3", "1-3", "0,2", "0,3", "3" };

/* Shared by all processes; the counters are only approximately right and only printed */
static struct shared {
	pid_t target[TARGETS];
	long calls, moved, answers[MAX_ERRNO], killed, looked_at, flips;
	bool stop;
} *shared;

static long number;
uint64_t random_state;

/* --- a caller ------------------------------------------------------------------------------ */

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

		make_request(&r);
		result = syscall(number, pidfd, r.vec, r.vlen, &r.args, r.usize, r.flags);
		result = result < 0 ? -errno : result;
		why = wrong_answer(&r, result);
		if (why) {
			printf("# call %ld: result %ld, flags %#x, usize %zu, future %#x, min %llu: %s\n",
			       i, result, r.flags, r.usize, r.args.future,
			       (unsigned long long)r.args.future_min, why);
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

static const struct group *group_of(int slot)
{
	return &groups[slot % COUNT(groups)];
}

/* Writes to a file of a group; where nothing else may be said, since processes come and go. */
static bool tell(const char *group, const char *file, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/cg/%s/%s", group, file);
	return write_file(path, text);
}

static void start_target(int slot)
{
	uint64_t seed = next() | 1;
	pid_t pid = fork();

	if (pid == 0) {
		/* Itself, and first: what it has in its window it then has from this cpuset */
		if (!tell(group_of(slot)->name, "cgroup.procs", "0"))
			_exit(1);
		be_target(seed);
	}
	shared->target[slot] = pid;
}

/* No page of the target's window is on a node that its cpuset never allowed. */
static bool stayed_inside(int slot)
{
	static void *pages[WINDOW_PAGES];
	static int status[WINDOW_PAGES];

	for (size_t i = 0; i < WINDOW_PAGES; i++)
		pages[i] = (void *)(WINDOW + i * PAGE);
	if (syscall(SYS_move_pages, shared->target[slot], WINDOW_PAGES, pages, NULL, status, 0))
		return true; /* it executes itself anew */
	for (size_t i = 0; i < WINDOW_PAGES; i++) {
		if (status[i] < 0)
			continue;
		shared->looked_at++;
		if (group_of(slot)->nodes >> status[i] & 1)
			continue;
		printf("# page %zu of a target in '%s' is on node %d, outside its cpuset\n", i,
		       group_of(slot)->name, status[i]);
		return false;
	}
	return true;
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

/* Changes the cpuset of the callers, as often as it can in the middle of their calls. */
static void be_flipper(uint64_t seed)
{
	struct sched_param first = { .sched_priority = 1 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The callers and the targets want all processors all the time */
	if (sched_setscheduler(0, SCHED_FIFO, &first))
		printf("# the cpuset of the callers changes rarely: %s\n", strerror(errno));
	random_state = seed;
	for (;; shared->flips++) {
		tell("callers", "cpuset.mems", callers_mems[below(COUNT(callers_mems))]);
		usleep(500);
	}
}

static bool disturb(void)
{
	int slot = below(TARGETS);
	const struct group *group = group_of(slot);

	tell(group->name, "cpuset.mems", group->mems[below(4)]);
	read_files(shared->target[slot]);
	for (int i = 0; i < TARGETS; i++)
		if (!stayed_inside(i))
			return false;
	usleep(3000);
	if (!one_in(4))
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

/* Two groups of targets and one of callers, with all the nodes they may ever have. */
static bool make_groups(void)
{
	return confine("low", "0-2", getpid()) && confine("high", "1-2", getpid()) &&
	       confine("callers", "0-3", getpid()) && write_file("/cg/cgroup.procs", "0");
}

static pid_t start_flipper(void)
{
	uint64_t seed = next() | 1;
	pid_t pid = fork();

	if (pid == 0)
		be_flipper(seed);
	return pid;
}

static bool run(uint64_t seed, long calls)
{
	pid_t callers[CALLERS], flipper;
	int left = CALLERS, status;
	bool good = make_groups();
	long told = 0;

	random_state = seed * 2 + 1;
	for (int i = 0; i < TARGETS; i++)
		start_target(i);
	for (int i = 0; i < CALLERS; i++) {
		uint64_t own = next() | 1;

		callers[i] = fork();
		if (callers[i] == 0 && tell("callers", "cgroup.procs", "0"))
			be_caller(own, calls / CALLERS);
	}
	flipper = start_flipper();
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
	kill(flipper, SIGKILL);
	for (int i = 0; i < TARGETS; i++)
		good &= stayed_inside(i) & end_target(i);
	return good;
}

int main(int argc, char **argv)
{
	bool good;

	if (argc == 3 && !strcmp(argv[1], "target"))
		be_target(strtoull(argv[2], NULL, 10));
	mount_all();
	number = announced_number();
	watch_leaks();
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	good = number >= 0 && run(setting("seed", 1), setting("calls", 1000));
	good = nothing_leaked() && good;
	for (int i = 0; i < MAX_ERRNO; i++)
		if (shared->answers[i])
			printf("# %s: %ld\n", strerror(i), shared->answers[i]);
	printf("# %ld calls, %ld of them moved memory, %ld targets killed\n", shared->calls,
	       shared->moved, shared->killed);
	printf("# %ld pages looked at, %ld changes of the callers' cpuset\n", shared->looked_at,
	       shared->flips);
	printf("1..1\n%s 1 - fuzz\n", good ? "ok" : "not ok");
	power_off();
}
