/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init of the machine that measures what a process sees while another moves its memory.
 * Prints "VICTIM size mover kind round call_ns count worst_ns p99_ns isolated" for each
 * measurement, where isolated is the largest number of pages seen off the LRU lists;
 * "ERROR ..." if the memory is not where a call was to put it.
 */
#define _GNU_SOURCE
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"
#include "guest.h"
#include "victim.h"

#define BEAT_NS 50000
#define PER_ARRAY (HUGE / PAGE)

enum mover { CONTROL, PROCESS_MBIND, ARRAYS, ONE_ARRAY, MIGRATE_PAGES, MOVERS };

static const char *const kind_names[] = { "", "fault", "mmap", "read" };
static const char *const mover_names[] = {
	"control", "process_mbind", "move_pages-2M", "move_pages", "migrate_pages",
};

struct size {
	const char *name;
	size_t len;
	bool huge;
	/*
	 * Calls in a round. What the kernel does once a second is as likely to be met while
	 * 64 MiB are moved 16 times as while it is 1 GiB once.
	 */
	int calls;
};

static const struct size sizes[] = {
	{ "64M", 64 * MIB, false, 16 },
	{ "1G", 1024 * MIB, false, 1 },
	{ "thp-256M", 256 * MIB, true, 1 },
};

/* The victim's memory, and on which node it is. */
struct memory {
	struct victim victim;
	struct page_list list;
	int node;
};

/* Keeps this processor as busy as a move does, and moves nothing. */
static void copy_for(uint64_t duration)
{
	static char from[HUGE], to[HUGE];
	uint64_t end = now() + duration;

	while (now() < end) {
		memcpy(to, from, HUGE);
		asm volatile("" : : "r"(to) : "memory");
	}
}

static long move(struct memory *memory, enum mover mover, int node, uint64_t duration)
{
	struct victim *victim = &memory->victim;
	struct iovec all = { victim->area, victim->len + TAIL };
	unsigned long from = 1UL << memory->node, to = 1UL << node;
	long failed = 0;

	switch (mover) {
	case PROCESS_MBIND:
		return call(victim->pidfd, &all, 1, BIND, to, MOVE) != (long)all.iov_len;
	case ARRAYS:
		for (size_t i = 0; i < memory->list.count; i += PER_ARRAY)
			failed |= move_listed(victim->pid, &memory->list, i, PER_ARRAY);
		return failed;
	case ONE_ARRAY:
		return move_listed(victim->pid, &memory->list, 0, memory->list.count);
	case MIGRATE_PAGES:
		/* More than 0 are pages that stayed; which ones is seen below */
		return syscall(SYS_migrate_pages, victim->pid, 64, &from, &to) < 0;
	default:
		copy_for(duration);
		return 0;
	}
}

static int compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static void report(struct victim *victim, const struct size *size, enum mover mover,
		   enum kind kind, int round, uint64_t took)
{
	struct shared *shared = victim->shared;
	size_t count = shared->count;

	qsort(shared->samples, count, sizeof(*shared->samples), compare);
	if (!count || count >= MAX_SAMPLES || shared->isolated < 0)
		printf("ERROR %s %s: %zu samples, %ld isolated\n", size->name, mover_names[mover],
		       count, shared->isolated);
	else
		printf("VICTIM %s %s %s %d %llu %zu %u %u %ld\n", size->name, mover_names[mover],
		       kind_names[kind], round, (unsigned long long)took, count,
		       shared->samples[count - 1], shared->samples[(count - 1) * 99 / 100],
		       shared->isolated);
}

/* The time of process_mbind(), which is how long the control takes. */
static void measure(struct memory *memory, const struct size *size, enum mover mover,
		    enum kind kind, int round, uint64_t *duration)
{
	struct victim *victim = &memory->victim;
	struct iovec all = { victim->area, victim->len + TAIL };
	struct shared *shared = victim->shared;
	uint64_t took = 0;

	shared->count = 0;
	shared->isolated = -1;
	victim_tell(victim, kind);
	for (int i = 0; i < size->calls; i++) {
		int node = mover == CONTROL ? memory->node : !memory->node;
		uint64_t start;
		long failed;

		page_list_to(&memory->list, node);
		usleep(5000);
		shared->recording = true;
		usleep(2000);
		start = now();
		failed = move(memory, mover, node, *duration / size->calls);
		took += now() - start;
		usleep(2000);
		shared->recording = false;
		expect(mover_names[mover], failed, 0);
		memory->node = node;
		victim_tell(victim, NOTHING);
		expect(mover_names[mover],
		       pages_on(victim->pid, (unsigned long)victim->area, victim->len, node),
		       victim->len / PAGE);
		expect("huge pages", huge_bytes(victim->pid), size->huge ? size->len : 0);
		expect("reset", call(victim->pidfd, &all, 1, DEFAULT, 0, 0), all.iov_len);
		victim_tell(victim, kind);
	}
	victim_tell(victim, NOTHING);
	if (mover == PROCESS_MBIND)
		*duration = took;
	report(victim, size, mover, kind, round, took / size->calls);
}

/*
 * Each mover takes the memory to the other node. Every other pass has them the other way round:
 * then each goes the other way, after another one.
 */
static void measure_size(const struct size *size, int rounds)
{
	struct memory memory = { .victim = victim_start(size->len, size->huge) };
	uint64_t duration = 1000000000;

	memory.list = page_list((unsigned long)memory.victim.area, size->len, PAGE);
	for (int round = 0; round < rounds; round++)
		for (enum kind kind = FAULT; kind < KINDS; kind++)
			for (int turn = 0; turn < MOVERS; turn++) {
				int mover = (round + kind) % 2 ? MOVERS - 1 - turn : turn;

				measure(&memory, size, mover, kind, round, &duration);
			}
	page_list_free(&memory.list);
	victim_end(&memory.victim);
}

/*
 * Counted processors take turns, and a turn ends where a timer is due: without one a victim
 * would wait for its turn, up to 5 ms. This is a timer that is always armed and does nothing.
 */
static void start_metronome(void)
{
	struct perf_event_attr beat = {
		.size = sizeof(beat),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = BEAT_NS,
	};

	if (syscall(SYS_perf_event_open, &beat, -1, 0, -1, 0) < 0)
		printf("ERROR no metronome\n");
}

int main(void)
{
	int rounds = getenv("rounds") ? atoi(getenv("rounds")) : 3;

	mount_all();
	number = announced_number();
	expect("kernels with process_mbind()", number >= 0, true);
	pin(0);
	if (getenv("counted"))
		start_metronome();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		measure_size(&sizes[i], rounds);
	printf("DONE\n");
	power_off();
}
