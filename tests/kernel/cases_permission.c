/* SPDX-License-Identifier: Apache-2.0 */
/* Who may do it, and to whom it can be done. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"
#include "guest.h"
#include "target.h"

#define NOBODY 65534
#define SIZE (16 * PAGE)

bool other_uid_eperm(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);

	CHECK(!setuid(NOBODY));
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, MOVE), -EPERM);
	/* Not even whether there is something mapped */
	WANT(process_mbind(target.pidfd, addr + SIZE, PAGE, BIND, 1 << 1, 0), -EPERM);
	return true;
}

bool same_uid_without_cap_eperm(void)
{
	struct target target = target_start(NOBODY);
	unsigned long addr = target_map_full(&target, SIZE);

	CHECK(!setuid(NOBODY));
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, 0), -EPERM);
	return true;
}

static unsigned long own_memory(void)
{
	return (unsigned long)mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
}

bool self_without_cap(void)
{
	unsigned long addr = own_memory();

	CHECK(!setuid(NOBODY));
	WANT(process_mbind(open_pidfd(getpid()), addr, SIZE, BIND, 1 << 1, MOVE), SIZE);
	/* Without privileges move_pages() reports on a dumpable process only */
	CHECK(!prctl(PR_SET_DUMPABLE, 1));
	WANT(pages_on(getpid(), addr, SIZE, 1), SIZE / PAGE);
	return true;
}

bool self_move_all_without_cap_eperm(void)
{
	unsigned long addr = own_memory();

	CHECK(!setuid(NOBODY));
	WANT(process_mbind(open_pidfd(getpid()), addr, SIZE, BIND, 1 << 1, MOVE_ALL), -EPERM);
	return true;
}

bool dead_pidfd_esrch(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);

	target_end(&target);
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, MOVE), -ESRCH);
	return true;
}

bool zombie_esrch(void)
{
	struct target target = target_start(0);
	unsigned long addr = target_map_full(&target, SIZE);
	siginfo_t info;

	kill(target.pid, SIGKILL);
	CHECK(!waitid(P_PID, target.pid, &info, WEXITED | WNOWAIT));
	WANT(process_mbind(target.pidfd, addr, SIZE, BIND, 1 << 1, MOVE), -ESRCH);
	return true;
}
