// SPDX-License-Identifier: Apache-2.0

// A Go program whose heap grows by 64 MiB when it is told to: "ready VERSION", a line on its
// input, "grown", the end of its input.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
)

const (
	small  = 1 << 10
	before = 1 << 20
	growth = 64 << 20
)

// objects returns slices of 1 KiB, each filled with a byte of its own.
func objects(total int) [][]byte {
	all := make([][]byte, total/small)
	for i := range all {
		all[i] = make([]byte, small)
		for j := range all[i] {
			all[i][j] = byte(i + j)
		}
	}
	return all
}

func check(all [][]byte) {
	for i, object := range all {
		for j, value := range object {
			if value != byte(i+j) {
				fmt.Fprintln(os.Stderr, "memory changed")
				os.Exit(1)
			}
		}
	}
}

func main() {
	input := bufio.NewReader(os.Stdin)
	old := objects(before)
	fmt.Println("ready", runtime.Version())
	if _, err := input.ReadString('\n'); err != nil {
		os.Exit(1)
	}
	grown := objects(growth)
	check(old)
	check(grown)
	fmt.Println("grown")
	input.ReadString('\n')
	runtime.KeepAlive(old)
	runtime.KeepAlive(grown)
}
