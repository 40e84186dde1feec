// SPDX-License-Identifier: Apache-2.0
/*
 * Memory that is special or shared: an io_uring with a buffer registered, locked memory, huge
 * pages, a memfd, shared anonymous memory, a mapping with a name, generated code, a mapping
 * kept from huge pages behind a reservation, and a thread.
 * Says "ready" and waits for the end of its input.
 */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MIB (1UL << 20)

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *map(size_t size, int prot, int flags, int fd, off_t offset)
{
	void *mapped = mmap(NULL, size, prot, flags, fd, offset);

	if (mapped == MAP_FAILED)
		fail("mmap");
	return mapped;
}

static char *anonymous(size_t size, int flags)
{
	char *mapped = map(size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);

	memset(mapped, 1, size);
	return mapped;
}

static void ring(void)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 1000 };
	struct iovec buffer = { anonymous(2 * MIB, MAP_PRIVATE), 2 * MIB };
	int fd = syscall(SYS_io_uring_setup, 64, &params);

	if (fd < 0)
		fail("io_uring_setup");
	map(params.sq_off.array + params.sq_entries * 4, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
	map(params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQES);
	if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &buffer, 1))
		fail("io_uring_register");
}

static void reserved(void)
{
	char *area = map(8 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (mprotect(area + 4 * MIB, 4 * MIB, PROT_READ | PROT_WRITE) ||
	    madvise(area + 4 * MIB, 4 * MIB, MADV_NOHUGEPAGE))
		fail("reserved");
	memset(area + 4 * MIB, 1, MIB);
}

static void *wait_forever(void *unused)
{
	for (;;)
		pause();
	return unused;
}

int main(void)
{
	int memory = memfd_create("frames", 0);
	char *named = anonymous(3 * MIB, MAP_PRIVATE), line[16];
	pthread_t thread;

	ring();
	reserved();
	if (mlock(anonymous(5 * MIB, MAP_PRIVATE), 5 * MIB))
		fail("mlock");
	if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named, 3 * MIB, "io-buffers"))
		fail("prctl");
	anonymous(4 * MIB, MAP_PRIVATE | MAP_HUGETLB);
	anonymous(6 * MIB, MAP_SHARED);
	if (memory < 0 || ftruncate(memory, 7 * MIB))
		fail("memfd");
	map(7 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	map(2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE, memory, 0);
	map(MIB, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pthread_create(&thread, NULL, wait_forever, NULL))
		fail("pthread_create");
	puts("ready");
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) ? 1 : 0;
}
