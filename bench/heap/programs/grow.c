/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A C program whose heap grows by 64 MiB when it is told to: "ready", a line on its input,
 * "grown", the end of its input. Exit status 1 if what it wrote is not there.
 *
 *   grow small       objects of 200 bytes, the main arena
 *   grow blocks      blocks of 1 MiB, above the mmap threshold
 *   grow realloc     one block of 1 MiB becomes one of 64 MiB
 *   grow old-thread  small objects, by a thread that has allocated before
 *   grow new-thread  small objects, by a thread that begins now
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1UL << 20)
#define GROWTH (64 * MIB)
#define SMALL 200UL

struct object {
	struct object *next;
	uint64_t words[];
};

static struct object *objects, *chunk;
static const char *kind;
static pthread_barrier_t begin, end;

static void fill(struct object *object, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < (size - sizeof(*object)) / 8; i++)
		object->words[i] = seed + i;
}

static bool intact(const struct object *object, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < (size - sizeof(*object)) / 8; i++)
		if (object->words[i] != seed + i)
			return false;
	return true;
}

static void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

/* Objects of this size, each reachable from the one after it; checks all of them. */
static void grow_by(size_t total, size_t size)
{
	size_t count = total / size;
	struct object *before = objects, *object;

	for (size_t i = 0; i < count; i++) {
		object = malloc(size);
		if (!object)
			fail("out of memory");
		fill(object, size, i);
		object->next = objects;
		objects = object;
	}
	for (object = objects; object != before; object = object->next)
		if (!intact(object, size, --count))
			fail("memory changed");
}

static void grow_chunk(void)
{
	chunk = realloc(chunk, GROWTH);
	if (!chunk || !intact(chunk, MIB, 1))
		fail("realloc");
	fill(chunk, GROWTH, 2);
	if (!intact(chunk, GROWTH, 2))
		fail("memory changed");
}

static void *thread(void *unused)
{
	bool old = !strcmp(kind, "old-thread");

	if (old)
		grow_by(MIB, SMALL);
	pthread_barrier_wait(&begin);
	if (old)
		pthread_barrier_wait(&begin);
	grow_by(GROWTH, SMALL);
	pthread_barrier_wait(&end);
	return unused;
}

static void start_thread(void)
{
	pthread_t id;

	if (pthread_create(&id, NULL, thread, NULL))
		fail("pthread_create");
	pthread_barrier_wait(&begin);
}

static void prepare(void)
{
	if (pthread_barrier_init(&begin, NULL, 2) || pthread_barrier_init(&end, NULL, 2))
		fail("pthread_barrier_init");
	if (!strcmp(kind, "realloc")) {
		chunk = malloc(MIB);
		fill(chunk, MIB, 1);
	} else if (!strcmp(kind, "old-thread")) {
		start_thread();
	} else {
		grow_by(MIB, SMALL);
	}
}

static void grow(void)
{
	if (!strcmp(kind, "small")) {
		grow_by(GROWTH, SMALL);
	} else if (!strcmp(kind, "blocks")) {
		grow_by(GROWTH, MIB);
	} else if (!strcmp(kind, "realloc")) {
		grow_chunk();
	} else if (!strcmp(kind, "old-thread")) {
		pthread_barrier_wait(&begin);
		pthread_barrier_wait(&end);
	} else if (!strcmp(kind, "new-thread")) {
		start_thread();
		pthread_barrier_wait(&end);
	} else {
		fail("no such kind");
	}
}

int main(int argc, char **argv)
{
	char line[16];

	kind = argc == 2 ? argv[1] : "";
	setvbuf(stdout, NULL, _IOLBF, 0);
	prepare();
	puts("ready");
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	grow();
	puts("grown");
	return fgets(line, sizeof(line), stdin) ? 1 : 0;
}
