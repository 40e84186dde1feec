/* SPDX-License-Identifier: Apache-2.0 */
#include "target.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

enum operation { MAP, TOUCH };

struct order {
	enum operation operation;
	unsigned long addr;
	size_t len;
};

static long touch(unsigned long addr, size_t len)
{
	for (size_t offset = 0; offset < len; offset += PAGE)
		*(volatile char *)(addr + offset) = 1;
	return 0;
}

static long do_map(size_t len)
{
	char *reserved = mmap(NULL, len + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(reserved, len + 2 * PAGE);
	return (long)mmap(reserved + PAGE, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static long obey(const struct order *order)
{
	switch (order->operation) {
	case MAP:
		return do_map(order->len);
	case TOUCH:
		return touch(order->addr, order->len);
	}
	return -1;
}

static void obey_all(int socket)
{
	struct order order;
	long answer;

	while (read(socket, &order, sizeof(order)) == sizeof(order)) {
		answer = obey(&order);
		if (write(socket, &answer, sizeof(answer)) != sizeof(answer))
			break;
	}
}

static long target_do(struct target *target, enum operation operation, unsigned long addr,
		      size_t len)
{
	struct order order = { operation, addr, len };
	long answer = -1;

	if (write(target->socket, &order, sizeof(order)) != sizeof(order) ||
	    read(target->socket, &answer, sizeof(answer)) != sizeof(answer))
		return -1;
	return answer;
}

struct target target_start(uid_t uid)
{
	int ends[2] = { -1, -1 };
	struct target target;

	socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
	target.pid = fork();
	if (target.pid == 0) {
		close(ends[0]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (uid && setuid(uid))
			_exit(1);
		/* A change of uid makes a process undumpable; this is a plain one */
		prctl(PR_SET_DUMPABLE, 1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		obey_all(ends[1]);
		_exit(0);
	}
	close(ends[1]);
	target.socket = ends[0];
	target.pidfd = open_pidfd(target.pid);
	/* Seen to be up, with its final uid */
	target_touch(&target, 0, 0);
	return target;
}

void target_end(struct target *target)
{
	kill(target->pid, SIGKILL);
	waitpid(target->pid, NULL, 0);
	close(target->socket);
}

unsigned long target_map(struct target *target, size_t len)
{
	return target_do(target, MAP, 0, len);
}

unsigned long target_map_full(struct target *target, size_t len)
{
	unsigned long addr = target_map(target, len);

	target_touch(target, addr, len);
	return addr;
}

long target_touch(struct target *target, unsigned long addr, size_t len)
{
	return target_do(target, TOUCH, addr, len);
}
