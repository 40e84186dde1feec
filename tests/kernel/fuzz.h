/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of fuzz.c share: random numbers, requests, and where the window is. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest.h"

#define WINDOW_PAGES 512
#define WINDOW 0x200000000000UL
#define CORRUPT 77
#define MAX_VEC 32

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

/* The arguments of one call. */
struct request {
	struct iovec vec[MAX_VEC];
	struct mpol_args args;
	char tail[8192]; /* zeroes: usize may be larger than args */
	size_t vlen, usize;
	uint64_t nodes;
	unsigned int flags;
	size_t total;
};

/* fuzz_request.c: random, but not too often nonsense. */
void make_request(struct request *r);
/* Why this can't be the answer to the request; NULL if it can. */
const char *wrong_answer(const struct request *r, long result);

/*
 * fuzz_target.c: changes its window until it is killed. Exits with CORRUPT when it finds other
 * bytes than it wrote.
 */
_Noreturn void be_target(uint64_t seed);

#endif
