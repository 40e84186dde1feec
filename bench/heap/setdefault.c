/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets the default policy of private anonymous mappings to come: "prefer this node".
 *
 *   setdefault later NODE PID        of a process that runs
 *   setdefault ranges NODE PID       and the policy of what it has mapped already
 *   setdefault exec NODE COMMAND...  of itself, kept over execve(), then becomes COMMAND
 *
 * No page is moved. Exit status 1 and a message if the kernel refuses.
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

#define MAX_RANGES 1024

static void set(int pidfd, const struct iovec *vec, size_t vlen, int node, unsigned int flags)
{
	uint64_t nodes = 1ULL << node;
	struct mpol_args args = {
		.mode = PREFERRED_MANY, .maxnode = 64, .nodes = (unsigned long)&nodes,
	};
	size_t want = 0;
	long done;

	for (size_t i = 0; i < vlen; i++)
		want += vec[i].iov_len;
	done = raw_process_mbind(pidfd, vec, vlen, &args, sizeof(args), flags);
	if (done < 0)
		errx(1, "process_mbind: %s", strerror(-done));
	if ((size_t)done != want)
		errx(1, "process_mbind: %ld of %zu bytes", done, want);
}

/* Whether this line of /proc/PID/maps is private anonymous memory, and no stack. */
static bool is_heap(const char *line, struct iovec *range)
{
	unsigned long start, end, inode;
	char mode[5], name[64] = "";

	if (sscanf(line, "%lx-%lx %4s %*s %*s %lu %63s", &start, &end, mode, &inode, name) < 4)
		return false;
	*range = (struct iovec){ (void *)start, end - start };
	return mode[3] == 'p' && inode == 0 &&
	       (!*name || !strcmp(name, "[heap]") || !strncmp(name, "[anon:", 6));
}

static void set_with_ranges(int pidfd, const char *pid, int node)
{
	struct iovec vec[MAX_RANGES];
	size_t vlen = 0;
	char path[64], line[1024];
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	maps = fopen(path, "r");
	if (!maps)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), maps)) {
		if (vlen == MAX_RANGES)
			errx(1, "more than %d mappings", MAX_RANGES);
		vlen += is_heap(line, &vec[vlen]);
	}
	fclose(maps);
	set(pidfd, vec, vlen, node, MF_FUTURE);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		errx(2, "usage: setdefault later|ranges NODE PID, or exec NODE COMMAND...");
	bool exec = !strcmp(argv[1], "exec");
	int node = atoi(argv[2]), pidfd = open_pidfd(exec ? getpid() : atoi(argv[3]));

	if (pidfd < 0)
		err(1, "pidfd_open");
	if (!strcmp(argv[1], "ranges")) {
		set_with_ranges(pidfd, argv[3], node);
		return 0;
	}
	set(pidfd, NULL, 0, node, MF_FUTURE | (exec ? MF_FUTURE_EXEC : 0));
	if (!exec)
		return 0;
	execvp(argv[3], argv + 3);
	err(1, "%s", argv[3]);
}
