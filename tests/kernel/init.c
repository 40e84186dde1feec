/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init of a machine that runs test programs: mounts what they expect, runs them one after
 * another and switches the machine off.
 *
 * What they say goes to the second serial port, the channel, as TAP 14: each program is one
 * case of it, its own TAP is the subtest. The console has a copy, for people and to see what
 * the kernel said meanwhile. A line is through before the next one is read: what a machine that
 * dies had said is there.
 *
 *   init [PROGRAM[,ARG...]...]	programs of /programs; all of them without arguments
 *
 * Source: TAP 14, https://testanything.org/tap-version-14-specification.html
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define CHANNEL "/dev/ttyS1"
#define DIRECTORY "/programs"
#define MAX_PROGRAMS 16
#define MAX_ARGS 16
#define INDENT "    "

static int channel = -1;

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

/* Bytes as they are: no translation of line ends */
static void open_channel(void)
{
	struct termios raw;

	channel = open(CHANNEL, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (channel < 0 || tcgetattr(channel, &raw)) {
		perror(CHANNEL);
		return;
	}
	cfmakeraw(&raw);
	tcsetattr(channel, TCSANOW, &raw);
}

/* One line, to the channel and to the console */
static void tell(const char *format, ...)
{
	static char line[4096];
	size_t length, done = 0;
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	length = strlen(line);
	line[length] = '\n';
	line[length + 1] = 0;
	fputs(line, stdout);
	while (done < length + 1) {
		ssize_t result = write(channel, line + done, length + 1 - done);

		if (result < 0 && errno != EINTR)
			return;
		done += result < 0 ? 0 : result;
	}
	tcdrain(channel);
}

/* Says what a program said, until nobody is left who could say something, or it has ended */
static int relay(int from, pid_t pid)
{
	static char line[4000];
	size_t length = 0;
	int status = -1;
	bool ended = false;
	char byte;

	for (;;) {
		ssize_t result = read(from, &byte, 1);

		if (result == 1 && byte != '\n') {
			if (length < sizeof(line) - 1)
				line[length++] = byte;
			continue;
		}
		if (result == 1) {
			tell(INDENT "%.*s", (int)length, line);
			length = 0;
		} else if (result == 0 || ended) {
			break;
		} else if (waitpid(pid, &status, WNOHANG) == pid) {
			/* What it said last is in the pipe; a child may hold that open for ever */
			ended = true;
		} else {
			usleep(10000);
		}
	}
	if (length)
		tell(INDENT "# a line without an end: %.*s", (int)length, line);
	if (!ended)
		waitpid(pid, &status, 0);
	return status;
}

static void execute(char *command, const char *path, int output)
{
	char *argv[MAX_ARGS + 1] = { NULL };
	size_t count = 0;

	for (char *word = strtok(command, ","); word && count < MAX_ARGS; word = strtok(NULL, ","))
		argv[count++] = word;
	dup2(output, 1);
	dup2(output, 2);
	/* Only when all has been said, and by nobody else, the machine is switched off */
	prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0);
	execv(path, argv);
	perror(path);
	_exit(127);
}

static void run(size_t number, char *command)
{
	char name[256], path[300];
	int ends[2], status;
	pid_t pid;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(command, ","), command);
	snprintf(path, sizeof(path), DIRECTORY "/%s", name);
	tell("# Subtest: %s", name);
	if (pipe2(ends, O_CLOEXEC)) {
		tell("not ok %zu - %s # pipe: %s", number, name, strerror(errno));
		return;
	}
	pid = fork();
	if (pid == 0)
		execute(command, path, ends[1]);
	close(ends[1]);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	status = relay(ends[0], pid);
	close(ends[0]);
	if (WIFSIGNALED(status))
		tell("not ok %zu - %s # ended by signal %d", number, name, WTERMSIG(status));
	else if (WEXITSTATUS(status))
		tell("not ok %zu - %s # exit status %d", number, name, WEXITSTATUS(status));
	else
		tell("ok %zu - %s", number, name);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t list(char **names)
{
	DIR *directory = opendir(DIRECTORY);
	struct dirent *entry;
	size_t count = 0;

	while (directory && (entry = readdir(directory)) && count < MAX_PROGRAMS)
		if (entry->d_name[0] != '.')
			names[count++] = strdup(entry->d_name);
	qsort(names, count, sizeof(*names), by_name);
	return count;
}

int main(int argc, char **argv)
{
	char *names[MAX_PROGRAMS], **commands = argv + 1;
	size_t count = argc - 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mount_all();
	open_channel();
	if (!count) {
		count = list(names);
		commands = names;
	}
	tell("TAP version 14");
	tell("1..%zu", count);
	for (size_t i = 0; i < count; i++)
		run(i + 1, commands[i]);
	sync();
	reboot(RB_POWER_OFF);
}
