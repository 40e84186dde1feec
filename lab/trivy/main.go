// SPDX-License-Identifier: Apache-2.0

// Prints, as JSON, what trivy's policies (Rego, by Open Policy Agent) have against the Kubernetes
// manifests in a folder: for each file the checks that failed. Trivy's scanner alone: the whole
// program brings registries, databases and clouds, and takes many times as long to compile.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/aquasecurity/trivy/pkg/iac/rego"
	"github.com/aquasecurity/trivy/pkg/iac/scanners/kubernetes"
)

type finding struct {
	Check    string `json:"check"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
}

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
	found := map[string][]finding{}
	for _, each := range results.GetFailed() {
		file := each.Range().GetFilename()
		found[file] = append(found[file], finding{
			Check:    each.Rule().ID,
			Severity: string(each.Severity()),
			Message:  each.Description(),
		})
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
