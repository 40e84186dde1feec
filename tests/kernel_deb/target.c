// SPDX-License-Identifier: Apache-2.0
// A process with 16 MiB of touched memory. Prints "PID ADDRESS LENGTH", then waits.
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	size_t length = 16 << 20;
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return 1;
	memset(memory, 1, length);
	printf("%d %p %zu\n", getpid(), memory, length);
	fflush(stdout);
	pause();
	return 0;
}
