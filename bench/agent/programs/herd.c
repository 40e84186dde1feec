// SPDX-License-Identifier: Apache-2.0
// A process of a container: many mappings, half of them written to, and then nothing.
//
//   herd MAPPINGS              prints "ready" when it has them
//   herd MAPPINGS PROCESSES    the same, with further processes that end with it
//
// SIGUSR1 has it map and unmap something every 2 s, SIGUSR2 ends that.

#define _GNU_SOURCE
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define SLOT (5 * PAGE) // four pages that are written to, one that keeps the next ones apart

static volatile sig_atomic_t changes;

static void on_signal(int number)
{
	changes = number == SIGUSR1;
}

static size_t mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	size_t count = 0;
	int c;

	if (!maps)
		err(1, "maps");
	while ((c = getc(maps)) != EOF)
		count += c == '\n';
	fclose(maps);
	return count;
}

static char *map(size_t size)
{
	char *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		err(1, "mmap");
	return start;
}

static void fill(size_t wanted)
{
	size_t own = mappings(), slots = wanted > own ? (wanted - own) / 2 : 0;
	char *start = map(slots * SLOT);

	for (size_t slot = 0; slot < slots; slot++, start += SLOT) {
		for (size_t page = 0; page < 4; page++)
			start[page * PAGE] = 1;
		if (mprotect(start + 4 * PAGE, PAGE, PROT_READ))
			err(1, "mprotect");
	}
}

// The new one is there before the old one goes: never at the same place twice in a row.
static void change(void)
{
	static char *last;
	char *next = map(SLOT);

	memset(next, 1, 4 * PAGE);
	if (mprotect(next + 4 * PAGE, PAGE, PROT_READ))
		err(1, "mprotect");
	if (last && munmap(last, SLOT))
		err(1, "munmap");
	last = next;
}

static void wait_ms(long ms)
{
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&pause, NULL);
}

// Each executes the program anew: what has been forked looks alike, and is remembered once.
static void spawn(char *mappings)
{
	pid_t child = fork();

	if (child < 0)
		err(1, "fork");
	if (child > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl("/proc/self/exe", "herd", mappings, NULL);
	err(1, "exec");
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t none;

	if (argc < 2 || argc > 3)
		errx(2, "usage: herd MAPPINGS [PROCESSES]");
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	for (long more = argc > 2 ? atol(argv[2]) - 1 : 0; more > 0; more--)
		spawn(argv[1]);
	fill(strtoul(argv[1], NULL, 10));
	puts("ready");
	fflush(stdout);
	sigemptyset(&none);
	for (;;) {
		sigsuspend(&none);
		// Not all of them in the same moment.
		if (changes)
			wait_ms(getpid() * 37 % 2000);
		while (changes) {
			change();
			wait_ms(2000);
		}
	}
}
