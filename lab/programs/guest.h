/* SPDX-License-Identifier: Apache-2.0 */
/* What the test programs share: the system call, TAP output, sysfs, cgroups, page counts. */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define PAGE 4096UL
#define DEBUG "/debug"

enum { DEFAULT, PREFERRED, BIND, INTERLEAVE, LOCAL, PREFERRED_MANY };
enum {
	STRICT = 1, MOVE = 2, MOVE_ALL = 4, LAZY = 8, HOME_NODE = 16, MF_FUTURE = 32,
	MF_FUTURE_EXEC = 64, PRIVATE_ANON = 128,
	ALL_FLAGS = STRICT | MOVE | MOVE_ALL | HOME_NODE | MF_FUTURE | MF_FUTURE_EXEC | PRIVATE_ANON
};
enum { FUTURE_BRK = 1, FUTURE_MMAP = 2 };

/* struct mpol_args of the kernel's <linux/mempolicy.h> */
struct mpol_args {
	uint16_t mode;
	uint16_t mode_flags;
	int32_t home_node;
	uint64_t maxnode;
	uint64_t nodes;
#define MPOL_ARGS_SIZE_VER0 24
	uint32_t future;
	uint32_t reserved;
	uint64_t future_min;
#define MPOL_ARGS_SIZE_VER1 40
};

struct test_case {
	const char *name;
	bool (*run)(void);
};

/* A case ends at the first expectation that does not hold. */
#define WANT(got, want)                                                      \
	do {                                                                 \
		if (!want_equal(__FILE__, __LINE__, #got, (got), (want)))    \
			return false;                                        \
	} while (0)
#define CHECK(condition) WANT(!!(condition), 1)

bool want_equal(const char *file, int line, const char *what, long got, long want);
void run_cases(const struct test_case *cases, size_t count);

/* Mounts /proc, /sys, /dev and the cgroup hierarchy /cg; only for PID 1. */
void mount_all(void);
/* Mounts debugfs; kmemleak, if the kernel has it, forgets what was lost so far. */
void watch_leaks(void);
/* Whether it has found nothing since; true on a kernel without it. */
bool nothing_leaked(void);
/* Flushes the console and switches the machine off. */
void power_off(void);

/* The number announced in sysfs, or -1. Everything below calls the kernel by it. */
long announced_number(void);
/* All calls return -errno on failure. */
long raw_process_mbind(int pidfd, const struct iovec *vec, size_t vlen, const void *args,
		       size_t usize, unsigned int flags);
/* One range, the nodes as a bit mask. */
long process_mbind(int pidfd, unsigned long addr, size_t len, int mode, uint64_t nodes,
		   unsigned int flags);
int open_pidfd(pid_t pid);

/* Number of pages of the range that lie on this node (-1: that are not there). */
long pages_on(pid_t pid, unsigned long addr, size_t len, int node);

/* First line of a file, without its end, in a static buffer; "" if there is none. */
const char *read_line(const char *path);
bool write_file(const char *path, const char *text);
/* Makes the cgroup /cg/NAME with these cpuset.mems and moves the process there. */
bool confine(const char *name, const char *mems, pid_t pid);

#endif
