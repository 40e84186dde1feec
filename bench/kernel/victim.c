/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "victim.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#define GAP_US 200
#define READS 16

void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		printf("ERROR pin to processor %d\n", cpu);
}

/* One write to a page of the range that is not there. */
static uint64_t fault(const struct victim *victim)
{
	static size_t next;
	char *tail = victim->area + victim->len;
	uint64_t start;

	if (next == TAIL) {
		madvise(tail, TAIL, MADV_DONTNEED);
		next = 0;
	}
	start = now();
	*(volatile char *)(tail + next) = 1;
	next += PAGE;
	return now() - start;
}

static uint64_t map(void)
{
	uint64_t start = now();
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*(volatile char *)page = 1;
	munmap(page, PAGE);
	return now() - start;
}

/* The slowest of a few reads: to meet a page on its way takes luck. */
static uint64_t read_some(const struct victim *victim)
{
	static uint64_t random = 1;
	uint64_t worst = 0;

	for (int i = 0; i < READS; i++) {
		uint64_t start, took;

		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		start = now();
		(void)*(volatile char *)(victim->area + (random >> 33) % victim->len);
		took = now() - start;
		if (took > worst)
			worst = took;
	}
	return worst;
}

static uint64_t do_once(const struct victim *victim, enum kind kind)
{
	switch (kind) {
	case FAULT:
		return fault(victim);
	case MAP:
		return map();
	default:
		return read_some(victim);
	}
}

/*
 * Who stands still for long does less meanwhile, which must not make the delay look rare: what
 * would have begun while it lasted is counted, too, with what was left of the delay by then.
 */
static void record(struct shared *shared, uint64_t took)
{
	while (shared->count < MAX_SAMPLES) {
		shared->samples[shared->count++] = took > UINT32_MAX ? UINT32_MAX : took;
		if (took <= GAP_US * 1000)
			break;
		took -= GAP_US * 1000;
	}
}

static void sample_isolated(struct shared *shared, int vmstat)
{
	static char text[16384];
	ssize_t length = pread(vmstat, text, sizeof(text) - 1, 0);
	char *found;
	long value;

	text[length < 0 ? 0 : length] = 0;
	found = strstr(text, "nr_isolated_anon ");
	value = found ? atol(found + strlen("nr_isolated_anon ")) : -1;
	if (value > shared->isolated)
		shared->isolated = value;
}

static void be_victim(const struct victim *victim)
{
	struct shared *shared = victim->shared;
	int vmstat = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
	unsigned int turn = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_TIMERSLACK, 1);
	pin(1);
	for (size_t offset = 0; offset < victim->len; offset += PAGE)
		victim->area[offset] = 1;
	for (;;) {
		enum kind kind = shared->wanted;
		bool recording = shared->recording;

		/* The range is as large for each mover */
		if (shared->doing != kind)
			madvise(victim->area + victim->len, TAIL, MADV_DONTNEED);
		shared->doing = kind;
		if (kind != NOTHING) {
			uint64_t took = do_once(victim, kind);

			if (recording)
				record(shared, took);
			/* Takes no lock of the victim's; between two measurements it disturbs none */
			if (recording && turn++ % 8 == 0)
				sample_isolated(shared, vmstat);
		}
		usleep(kind == NOTHING ? 1000 : GAP_US);
	}
}

void victim_tell(struct victim *victim, enum kind kind)
{
	victim->shared->wanted = kind;
	while (victim->shared->doing != kind) {
		if (waitpid(victim->pid, NULL, WNOHANG)) {
			printf("ERROR the victim is no more\n");
			power_off();
		}
		usleep(1000);
	}
}

struct victim victim_start(size_t size, bool huge)
{
	struct victim victim = { .len = size };
	size_t len = size + TAIL;
	char *map;

	victim.shared = mmap(NULL, sizeof(*victim.shared), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	/* No other mapping may become one with it */
	map = mmap(NULL, len + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	victim.area = (char *)(((unsigned long)map + 2 * HUGE - 1) & ~(HUGE - 1));
	mmap(victim.area, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	huge_pages(huge);
	victim.shared->doing = KINDS;
	victim.pid = fork();
	if (victim.pid == 0)
		be_victim(&victim);
	victim.pidfd = open_pidfd(victim.pid);
	victim_tell(&victim, NOTHING);
	huge_pages(false);
	munmap(map, len + 2 * HUGE);
	expect("huge pages", huge_bytes(victim.pid), huge ? size : 0);
	return victim;
}

void victim_end(struct victim *victim)
{
	kill(victim->pid, SIGKILL);
	waitpid(victim->pid, NULL, 0);
	close(victim->pidfd);
	munmap(victim->shared, sizeof(*victim->shared));
}

