// SPDX-License-Identifier: Apache-2.0

// Prints the AppArmor profile that containerd gives containers that ask for none, as it loads it.
package main

import (
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/contrib/apparmor"
)

func main() {
	text, err := apparmor.DumpDefaultProfile("cri-containerd.apparmor.d")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(text)
}
