/* SPDX-License-Identifier: Apache-2.0 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CASE_SECONDS 120
#define KMEMLEAK DEBUG "/kmemleak"
#define ANNOUNCEMENT "/sys/kernel/mm/mempolicy/process_mbind/nr"

bool want_equal(const char *file, int line, const char *what, long got, long want)
{
	if (got == want)
		return true;
	printf("# %s:%d: %s is %ld, expected %ld\n", file, line, what, got, want);
	return false;
}

/* In a process of its own: a case may confine itself, drop privileges, or crash. */
static bool run_case(const struct test_case *test)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(CASE_SECONDS);
		exit(test->run() ? 0 : 1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status))
		printf("# ended by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void run_cases(const struct test_case *cases, size_t count)
{
	printf("1..%zu\n", count);
	for (size_t i = 0; i < count; i++)
		printf("%s %zu - %s\n", run_case(&cases[i]) ? "ok" : "not ok", i + 1,
		       cases[i].name);
}

void mount_all(void)
{
	static const char *const mounts[][2] = {
		{ "/proc", "proc" }, { "/sys", "sysfs" }, { "/dev", "devtmpfs" }, { "/cg", "cgroup2" },
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i][0], 0755);
		if (mount("none", mounts[i][0], mounts[i][1], 0, NULL) && errno != EBUSY)
			printf("# mount %s: %s\n", mounts[i][0], strerror(errno));
	}
	write_file("/cg/cgroup.subtree_control", "+cpuset");
}

void watch_leaks(void)
{
	mkdir(DEBUG, 0755);
	if (mount("none", DEBUG, "debugfs", 0, NULL))
		printf("# debugfs: %s\n", strerror(errno));
	if (!access(KMEMLEAK, W_OK))
		write_file(KMEMLEAK, "clear");
}

bool nothing_leaked(void)
{
	if (access(KMEMLEAK, W_OK))
		return true;
	/* It does not tell of what is younger than 5 s */
	for (int i = 0; i < 2; i++) {
		sleep(7);
		CHECK(write_file(KMEMLEAK, "scan"));
	}
	if (*read_line(KMEMLEAK))
		printf("# %s\n", read_line(KMEMLEAK));
	CHECK(!*read_line(KMEMLEAK));
	return true;
}

void power_off(void)
{
	fflush(stdout);
	sync();
	reboot(RB_POWER_OFF);
}

long announced_number(void)
{
	const char *text = read_line(ANNOUNCEMENT);

	return *text ? atol(text) : -1;
}

long raw_process_mbind(int pidfd, const struct iovec *vec, size_t vlen, const void *args,
		       size_t usize, unsigned int flags)
{
	long number = announced_number();
	long result;

	if (number < 0)
		return -ENOSYS;
	result = syscall(number, pidfd, vec, vlen, args, usize, flags);
	return result < 0 ? -errno : result;
}

long process_mbind(int pidfd, unsigned long addr, size_t len, int mode, uint64_t nodes,
		   unsigned int flags)
{
	struct iovec range = { (void *)addr, len };
	struct mpol_args args = {
		.mode = mode, .maxnode = 64, .nodes = (unsigned long)&nodes,
	};

	return raw_process_mbind(pidfd, &range, 1, &args, sizeof(args), flags);
}

int open_pidfd(pid_t pid)
{
	return syscall(SYS_pidfd_open, pid, 0);
}

long pages_on(pid_t pid, unsigned long addr, size_t len, int node)
{
	size_t count = len / PAGE;
	void **pages = calloc(count, sizeof(*pages));
	int *status = calloc(count, sizeof(*status));
	long found = 0;

	for (size_t i = 0; i < count; i++)
		pages[i] = (void *)(addr + i * PAGE);
	if (syscall(SYS_move_pages, pid, count, pages, NULL, status, 0))
		found = -errno;
	for (size_t i = 0; found >= 0 && i < count; i++)
		found += node < 0 ? status[i] < 0 : status[i] == node;
	free(pages);
	free(status);
	return found;
}

const char *read_line(const char *path)
{
	static char line[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, line, sizeof(line) - 1);

	line[length < 0 ? 0 : length] = 0;
	line[strcspn(line, "\n")] = 0;
	if (fd >= 0)
		close(fd);
	return line;
}

bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (!good)
		printf("# write '%s' to %s: %s\n", text, path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return good;
}

bool confine(const char *name, const char *mems, pid_t pid)
{
	char path[128], number[16];

	snprintf(path, sizeof(path), "/cg/%s", name);
	if (mkdir(path, 0755) && errno != EEXIST)
		return false;
	snprintf(path, sizeof(path), "/cg/%s/cpuset.mems", name);
	if (!write_file(path, mems))
		return false;
	snprintf(path, sizeof(path), "/cg/%s/cgroup.procs", name);
	snprintf(number, sizeof(number), "%d", pid);
	return write_file(path, number);
}
