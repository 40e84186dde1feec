// SPDX-License-Identifier: Apache-2.0

// A Go program with C in it: four threads wait in C, and the heaps of both have memory.
// Says "ready VERSION" and waits for the end of its input.
package main

/*
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *fill(size_t size) { return memset(malloc(size), 1, size); }
static void wait_in_c(void) { for (;;) pause(); }
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
)

func main() {
	heap := make([][]byte, 32<<10)
	for i := range heap {
		heap[i] = make([]byte, 1<<10)
		heap[i][i%1024] = 1
	}
	for range 4 {
		go func() { C.fill(1 << 20); C.wait_in_c() }()
	}
	C.fill(64 << 10)
	fmt.Println("ready", runtime.Version())
	bufio.NewReader(os.Stdin).ReadString('\n')
	runtime.KeepAlive(heap)
}
