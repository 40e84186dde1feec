/* SPDX-License-Identifier: Apache-2.0 */
/* What the caller and the target of fuzz.c share: random numbers, and where the window is. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_PAGES 512
#define WINDOW 0x200000000000UL
#define CORRUPT 77

extern uint64_t random_state;

/* xorshift64*: the same on every machine */
static inline uint64_t next(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 2685821657736338717ULL;
}

static inline unsigned long below(unsigned long limit)
{
	return (next() >> 16) % limit;
}

static inline bool one_in(unsigned long n)
{
	return below(n) == 0;
}

/*
 * Changes its window until it is killed. Exits with CORRUPT when it finds other bytes than it
 * wrote.
 */
_Noreturn void be_target(uint64_t seed);

#endif
