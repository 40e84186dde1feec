/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process whose memory is moved. It runs on processor 1 and does one thing at a time, again
 * and again; that is why there is a pass for each: two threads of it would measure how they
 * wait for one another, for the processor or for the lock of their memory.
 */
#ifndef VICTIM_H
#define VICTIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common.h"

/* Of the range, what is not there: for page faults. */
#define TAIL (16 * MIB)
#define MAX_SAMPLES (1 << 20)

enum kind { NOTHING, FAULT, MAP, READ, KINDS };

/* What the victim and who watches it tell each other. */
struct shared {
	volatile enum kind wanted, doing;
	volatile bool recording;
	volatile size_t count;
	volatile long isolated; /* pages off the LRU lists at most, -1: not seen */
	uint32_t samples[MAX_SAMPLES]; /* ns */
};

struct victim {
	pid_t pid;
	int pidfd;
	char *area; /* len bytes that are there, then TAIL bytes, in one mapping */
	size_t len;
	struct shared *shared;
};

/* Binds the caller to a processor. */
void pin(int cpu);
/* Starts it with all of its memory on the node of the processors. */
struct victim victim_start(size_t len, bool huge);
void victim_end(struct victim *victim);
/* Tells the victim what to do and waits until it does. */
void victim_tell(struct victim *victim, enum kind kind);

#endif
