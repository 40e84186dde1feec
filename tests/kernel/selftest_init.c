/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init of a machine that runs the kernel's own selftests: mounts what they expect, runs
 * every program in /selftests and switches the machine off.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIRECTORY "/selftests"
#define MAX_PROGRAMS 16

static void mount_all(void)
{
	static const char *const mounts[][2] = {
		{ "/proc", "proc" }, { "/sys", "sysfs" }, { "/dev", "devtmpfs" },
		{ "/tmp", "tmpfs" }, { "/sys/fs/cgroup", "cgroup2" },
	};

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i][0], 0755);
		if (mount("none", mounts[i][0], mounts[i][1], 0, NULL))
			perror(mounts[i][0]);
	}
}

static void run(const char *name)
{
	char path[300];
	int status = -1;
	pid_t pid;

	snprintf(path, sizeof(path), DIRECTORY "/%s", name);
	printf("PROGRAM %s\n", name);
	pid = fork();
	if (pid == 0) {
		dup2(1, 2);
		execl(path, path, NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	printf("END %s %d\n", name, status);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(void)
{
	char *names[MAX_PROGRAMS];
	size_t count = 0;
	struct dirent *entry;
	DIR *directory;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mount_all();
	directory = opendir(DIRECTORY);
	while (directory && (entry = readdir(directory)) && count < MAX_PROGRAMS)
		if (entry->d_name[0] != '.')
			names[count++] = strdup(entry->d_name);
	qsort(names, count, sizeof(*names), by_name);
	for (size_t i = 0; i < count; i++)
		run(names[i]);
	sync();
	reboot(RB_POWER_OFF);
}
