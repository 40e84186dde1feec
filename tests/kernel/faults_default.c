/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel does with a default for mappings to come when no one makes the call: fork(),
 * execve(), mmap() and brk() of a process that has one, with each of their allocations failing
 * in turn.
 *
 * What has to hold: the operation fails, or what it made has the default; the process keeps its
 * default in any case. An execve() that fails after the point of no return kills the process.
 */
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#define LEN (4 * PAGE)
#define POLICY "prefer (many):1"
#define MOST 2000

/* What became of a child that forked or executed: its exit status */
enum { KEPT = 20, KEPT_AND_HIT, LOST };

/* --- a failing allocation of this thread --------------------------------------------------- */

void fail_start(struct failure *failure, int nth)
{
	char text[16];

	failure->fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	snprintf(text, sizeof(text), "%d", nth);
	if (pwrite(failure->fd, text, strlen(text), 0) < 0)
		printf("# fail-nth: %s\n", strerror(errno));
}

bool fail_end(struct failure *failure)
{
	char text[16] = "";
	bool hit = pread(failure->fd, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;

	if (pwrite(failure->fd, "0", 1, 0) < 0)
		printf("# fail-nth: %s\n", strerror(errno));
	close(failure->fd);
	return hit;
}

/* --- the default --------------------------------------------------------------------------- */

/* Whether a file of this process has a line that begins and goes on like this. */
static bool has_line(const char *path, const char *begin, const char *rest)
{
	FILE *file = fopen(path, "re");
	char line[1024];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		found = !strncmp(line, begin, strlen(begin)) &&
			!strncmp(line + strlen(begin), rest, strlen(rest));
	if (file)
		fclose(file);
	return found;
}

static bool has_default(void)
{
	return has_line("/proc/self/status", "Mpol_future:\t", POLICY " exec\n");
}

static bool set_default(void)
{
	uint64_t nodes = 1 << 1;
	struct mpol_args args = {
		.mode = PREFERRED_MANY, .maxnode = 64, .nodes = (unsigned long)&nodes,
	};
	int self = open_pidfd(getpid());

	WANT(raw_process_mbind(self, NULL, 0, &args, MPOL_ARGS_SIZE_VER0,
			       MF_FUTURE | MF_FUTURE_EXEC), 0);
	close(self);
	CHECK(has_default());
	return true;
}

/* The mapping that begins at this address has the policy. */
static bool follows(unsigned long addr)
{
	char begin[32];

	snprintf(begin, sizeof(begin), "%08lx ", addr);
	CHECK(has_line("/proc/self/numa_maps", begin, POLICY));
	return true;
}

static bool each_allocation(bool (*attempt)(int nth, bool *hit))
{
	bool hit = true;
	int nth = 0;

	CHECK(set_default());
	while (hit && nth < MOST) {
		CHECK(attempt(++nth, &hit));
		CHECK(has_default());
	}
	printf("# %d allocations failed, one at a time\n", nth - 1);
	CHECK(nth > 1 && nth < MOST);
	return true;
}

/* --- mmap() and brk() ------------------------------------------------------------------------ */

static bool map_once(int nth, bool *hit)
{
	struct failure failure;
	char *there, *memory;

	/* Where no neighbour has the policy already */
	there = mmap(NULL, 3 * LEN, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(there != MAP_FAILED);
	fail_start(&failure, nth);
	memory = mmap(there + LEN, LEN, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	*hit = fail_end(&failure);
	CHECK(*hit || memory != MAP_FAILED);
	CHECK(memory == MAP_FAILED || follows((unsigned long)memory));
	munmap(there, 3 * LEN);
	return true;
}

bool default_mmap(void)
{
	return each_allocation(map_once);
}

static bool grow_once(int nth, bool *hit)
{
	/* Beyond what the C library has of the heap, at a place of its own each time */
	char *start = (char *)(((unsigned long)sbrk(0) + 2 * PAGE - 1) & ~(PAGE - 1)), *grown;
	struct failure failure;

	CHECK(!brk(start));
	CHECK(!mprotect(start - PAGE, PAGE, PROT_READ));
	fail_start(&failure, nth);
	grown = brk(start + LEN) ? NULL : start;
	*hit = fail_end(&failure);
	CHECK(*hit || grown);
	CHECK(!grown || follows((unsigned long)grown));
	CHECK(!mprotect(start - PAGE, PAGE, PROT_READ | PROT_WRITE));
	return true;
}

bool default_brk(void)
{
	return each_allocation(grow_once);
}

/* --- fork() ---------------------------------------------------------------------------------- */

static bool fork_once(int nth, bool *hit)
{
	struct failure failure;
	int status;
	pid_t pid;

	fail_start(&failure, nth);
	pid = fork();
	if (pid == 0)
		_exit(has_default() ? KEPT : LOST);
	*hit = fail_end(&failure);
	CHECK(*hit || pid > 0);
	if (pid < 0)
		return true;
	WANT(waitpid(pid, &status, 0), pid);
	WANT(status, KEPT << 8);
	return true;
}

bool default_fork(void)
{
	return each_allocation(fork_once);
}

/* --- execve() -------------------------------------------------------------------------------- */

/*
 * A failure that is yet to come went with the process into the new program. If it is this
 * open() that it hits, the next one succeeds.
 */
int be_executed(void)
{
	static const char path[] = "/proc/thread-self/fail-nth";
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct failure failure = { fd < 0 ? open(path, O_RDWR | O_CLOEXEC) : fd };
	bool hit = fail_end(&failure) || fd < 0;

	if (!has_default())
		return LOST;
	return hit ? KEPT_AND_HIT : KEPT;
}

#define NO_START 127

static _Noreturn void execute(int nth)
{
	struct failure failure;

	fail_start(&failure, nth);
	execl("/proc/self/exe", "faults", EXECUTED, NULL);
	if (!fail_end(&failure))
		_exit(LOST);
	_exit(has_default() ? KEPT_AND_HIT : LOST);
}

static bool execute_once(int nth, bool *hit)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		execute(nth);
	WANT(waitpid(pid, &status, 0), pid);
	/*
	 * Beyond the point of no return there is nothing to go back to: the kernel kills it. The
	 * C library of a new program that gets no memory aborts, or exits with 127.
	 */
	*hit = WIFSIGNALED(status) || WEXITSTATUS(status) == KEPT_AND_HIT ||
	       WEXITSTATUS(status) == NO_START;
	if (WIFSIGNALED(status))
		CHECK(WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGABRT);
	else
		CHECK(*hit || WEXITSTATUS(status) == KEPT);
	return true;
}

bool default_execve(void)
{
	return each_allocation(execute_once);
}
