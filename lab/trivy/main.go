// SPDX-License-Identifier: Apache-2.0

// Prints, as JSON, what trivy's policies (Rego, by Open Policy Agent) have against the Kubernetes
// manifests in a folder: for each file the checks that failed. It is trivy's scanner alone, without
// the registries, databases and clouds of the whole program.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/aquasecurity/trivy/pkg/iac/rego"
	"github.com/aquasecurity/trivy/pkg/iac/scanners/kubernetes"
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: trivy FOLDER")
	}
	scanner := kubernetes.NewScanner(
		rego.WithEmbeddedPolicies(true),
		rego.WithEmbeddedLibraries(true),
		rego.WithPolicyNamespaces("builtin"),
	)
	results, err := scanner.ScanFS(context.Background(), os.DirFS(os.Args[1]), ".")
	if err != nil {
		fail(err)
	}
	found := map[string][]string{}
	for _, each := range results.GetFailed() {
		file := each.Range().GetFilename()
		found[file] = append(found[file], each.Rule().ID)
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{
		"passed": len(results.GetPassed()),
		"failed": found,
	}); err != nil {
		fail(err)
	}
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
