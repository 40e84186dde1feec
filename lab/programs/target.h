/* SPDX-License-Identifier: Apache-2.0 */
/* The other process: maps and touches memory when it is told to, and knows nothing else. */
#ifndef TARGET_H
#define TARGET_H

#include <stddef.h>
#include <sys/types.h>

struct target {
	pid_t pid;
	int pidfd;
	int socket;
};

/* Starts a process with this uid. It ends with the caller. */
struct target target_start(uid_t uid);
/* Kills and reaps it; the pidfd stays open. */
void target_end(struct target *target);

/* New private anonymous mapping without pages, with a hole before and after it. */
unsigned long target_map(struct target *target, size_t len);
/* New mapping with all its pages. */
unsigned long target_map_full(struct target *target, size_t len);
/* Writes one byte to each page. */
long target_touch(struct target *target, unsigned long addr, size_t len);

#endif
