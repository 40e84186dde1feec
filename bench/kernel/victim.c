/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init of the machine that measures what a process sees while another moves its memory.
 * Prints "VICTIM size mover kind round call_ns count worst_ns p99_ns isolated" for each
 * measurement, where isolated is the largest number of pages seen off the LRU lists;
 * "ERROR ..." if the memory is not where a call was to put it.
 *
 * The victim runs on processor 1, the mover on processor 0. It does one thing at a time,
 * again and again, and that is why there is a pass for each: two threads of it would measure
 * how they wait for one another, for the processor or for the lock of their memory.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "guest.h"

#define TAIL (16 * MIB)
#define MAX_SAMPLES (1 << 20)
#define GAP_US 200
#define READS 16
#define BEAT_NS 50000
#define PER_ARRAY (HUGE / PAGE)

enum kind { NOTHING, FAULT, MAP, READ, KINDS };
enum mover { CONTROL, PROCESS_MBIND, ARRAYS, ONE_ARRAY, MIGRATE_PAGES, MOVERS };

static const char *const kind_names[] = { "", "fault", "mmap", "read" };
static const char *const mover_names[] = {
	"control", "process_mbind", "move_pages-2M", "move_pages", "migrate_pages",
};

struct size {
	const char *name;
	size_t len;
	bool huge;
	/* Calls in a round: a short one gives few samples */
	int calls;
};

static const struct size sizes[] = {
	{ "64M", 64 * MIB, false, 4 },
	{ "1G", 1024 * MIB, false, 1 },
	{ "thp-1G", 1024 * MIB, true, 1 },
};

/* What mover and victim tell each other. */
struct shared {
	volatile enum kind wanted, doing;
	volatile bool recording;
	volatile size_t count;
	volatile long isolated;
	uint32_t samples[MAX_SAMPLES]; /* ns */
};

struct victim {
	pid_t pid;
	int pidfd;
	char *area; /* len bytes that are there, then TAIL bytes that are not, in one mapping */
	size_t len;
	struct shared *shared;
	struct page_list list;
	int node;
};

static void pin(int cpu)
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
		usleep(GAP_US);
	}
}

/* Tells the victim what to do and waits until it does. */
static void tell(struct victim *victim, enum kind kind)
{
	victim->shared->wanted = kind;
	while (victim->shared->doing != kind)
		usleep(1000);
}

static struct victim victim_start(const struct size *size)
{
	struct victim victim = { .len = size->len };
	size_t len = size->len + TAIL;
	char *map;

	victim.shared = mmap(NULL, sizeof(*victim.shared), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	/* No other mapping may become one with it */
	map = mmap(NULL, len + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	victim.area = (char *)(((unsigned long)map + 2 * HUGE - 1) & ~(HUGE - 1));
	mmap(victim.area, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	victim.list = page_list((unsigned long)victim.area, victim.len, PAGE);
	huge_pages(size->huge);
	victim.shared->doing = KINDS;
	victim.pid = fork();
	if (victim.pid == 0)
		be_victim(&victim);
	victim.pidfd = open_pidfd(victim.pid);
	tell(&victim, NOTHING);
	huge_pages(false);
	munmap(map, len + 2 * HUGE);
	expect("huge pages", huge_bytes(victim.pid), size->huge ? size->len : 0);
	return victim;
}

static void victim_end(struct victim *victim)
{
	kill(victim->pid, SIGKILL);
	waitpid(victim->pid, NULL, 0);
	close(victim->pidfd);
	page_list_free(&victim->list);
	munmap(victim->shared, sizeof(*victim->shared));
}

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

static long move(struct victim *victim, enum mover mover, int node, uint64_t duration)
{
	struct iovec all = { victim->area, victim->len + TAIL };
	unsigned long from = 1UL << victim->node, to = 1UL << node;
	long failed = 0;

	switch (mover) {
	case PROCESS_MBIND:
		return call(victim->pidfd, &all, 1, BIND, to, MOVE) != (long)all.iov_len;
	case ARRAYS:
		for (size_t i = 0; i < victim->list.count; i += PER_ARRAY)
			failed |= move_listed(victim->pid, &victim->list, i, PER_ARRAY);
		return failed;
	case ONE_ARRAY:
		return move_listed(victim->pid, &victim->list, 0, victim->list.count);
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
	if (!count || count >= MAX_SAMPLES)
		printf("ERROR %s %s: %zu samples\n", size->name, mover_names[mover], count);
	else
		printf("VICTIM %s %s %s %d %llu %zu %u %u %ld\n", size->name, mover_names[mover],
		       kind_names[kind], round, (unsigned long long)took, count,
		       shared->samples[count - 1], shared->samples[(count - 1) * 99 / 100],
		       shared->isolated);
}

/* The time of process_mbind(), which is how long the control takes. */
static void measure(struct victim *victim, const struct size *size, enum mover mover,
		    enum kind kind, int round, uint64_t *duration)
{
	struct iovec all = { victim->area, victim->len + TAIL };
	struct shared *shared = victim->shared;
	uint64_t took = 0;

	shared->count = 0;
	shared->isolated = 0;
	tell(victim, kind);
	for (int i = 0; i < size->calls; i++) {
		int node = mover == CONTROL ? victim->node : !victim->node;
		uint64_t start;
		long failed;

		page_list_to(&victim->list, node);
		usleep(20000);
		shared->recording = true;
		usleep(2000);
		start = now();
		failed = move(victim, mover, node, *duration / size->calls);
		took += now() - start;
		usleep(2000);
		shared->recording = false;
		expect(mover_names[mover], failed, 0);
		victim->node = node;
		tell(victim, NOTHING);
		expect(mover_names[mover],
		       pages_on(victim->pid, (unsigned long)victim->area, victim->len, node),
		       victim->len / PAGE);
		expect("huge pages", huge_bytes(victim->pid), size->huge ? size->len : 0);
		expect("reset", call(victim->pidfd, &all, 1, DEFAULT, 0, 0), all.iov_len);
		tell(victim, kind);
	}
	tell(victim, NOTHING);
	if (mover == PROCESS_MBIND)
		*duration = took;
	report(victim, size, mover, kind, round, took / size->calls);
}

/*
 * Each mover takes the memory to the other node. The order turns, so that none always comes
 * after the same one or goes the same way.
 */
static void measure_size(const struct size *size, int rounds)
{
	struct victim victim = victim_start(size);
	uint64_t duration = 1000000000;

	for (int round = 0; round < rounds; round++)
		for (enum kind kind = FAULT; kind < KINDS; kind++)
			for (int turn = 0; turn < MOVERS; turn++)
				measure(&victim, size, (turn + round) % MOVERS, kind, round, &duration);
	victim_end(&victim);
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
	pin(0);
	if (getenv("counted"))
		start_metronome();
	for (size_t i = 0; number >= 0 && i < sizeof(sizes) / sizeof(*sizes); i++)
		measure_size(&sizes[i], rounds);
	printf("DONE\n");
	power_off();
}
