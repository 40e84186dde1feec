// SPDX-License-Identifier: Apache-2.0
/*
 * Four threads and the main one allocate 4 MiB each in small objects and 4 MiB in one block;
 * a fifth thread has ended, so that its stack may lie in the C library's cache.
 * Says "ready" and waits for the end of its input.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 4
#define SIZE (4UL << 20)
#define SMALL 200UL

static pthread_barrier_t filled;
static void *volatile kept;

static void fill(void)
{
	void **last = NULL, **object;

	for (size_t done = 0; done < SIZE; done += SMALL) {
		object = malloc(SMALL);
		if (!object)
			exit(1);
		memset(object, 1, SMALL);
		*object = last;
		last = object;
	}
	object = malloc(SIZE);
	if (!object)
		exit(1);
	memset(object, 1, SIZE);
	*object = last;
	kept = object;
}

static void *allocate(void *unused)
{
	fill();
	pthread_barrier_wait(&filled);
	for (;;)
		pause();
	return unused;
}

static void *end(void *unused)
{
	return unused;
}

int main(void)
{
	pthread_t thread;
	char line[16];

	pthread_barrier_init(&filled, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, allocate, NULL))
			return 1;
	fill();
	pthread_barrier_wait(&filled);
	if (pthread_create(&thread, NULL, end, NULL) || pthread_join(thread, NULL))
		return 1;
	puts("ready");
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) ? 1 : 0;
}
