# SPDX-License-Identifier: Apache-2.0
# Most of it runs inside the lab's own Debian root (lab/enter): the host needs
# nothing but Debian's apt and root. What needs no root is at the end.
.PHONY: help version release try unit chart demo test check test-long test-kernel test-kernel-full bench-kernel bench-heap bench-agent bench-births bench-first-pages bench-operator docs build lab-up lab-down lab-shell clean-cache lock

IN_LAB := lab/enter
SYNC := uv sync --quiet --all-groups
LAB := $(IN_LAB) sh -c '$(SYNC) && exec python3 -m memplace_lab "$$@"' lab

help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

demo: ## Bring up a cluster with memory tiers and move a running pod to CXL (TOPOLOGY=hmat, or two)
	@$(LAB) demo --topology $(or $(TOPOLOGY),hmat)

test: ## Prove everything: static checks, unit, CRD, chart, image, kernel and end-to-end tests
	@$(IN_LAB) sh -c '$(SYNC) && exec lab/test'

check: ## The fast part of the tests: static checks and unit tests
	@$(IN_LAB) sh -c '$(SYNC) && exec lab/test --fast'

test-long: ## Agent and operator under faults with their full number of tries, 100,000 fuzzed objects: over an hour
	@$(IN_LAB) sh -c '$(SYNC) && MEMPLACE_LONG=yes exec lab/test faults crd operator'

test-kernel: ## Boot the patched kernel on five kinds of machines and run its tests
	@$(IN_LAB) sh -c '$(SYNC) && exec lab/test kernel'

test-kernel-full: ## The same for every base and debug flavour: hours; goes on where it was
	@$(LAB) matrix

bench-kernel: ## Compare process_mbind() with the other calls, also in what the moved process sees
	@$(LAB) bench kernel

bench-heap: ## Tell how much of the heap of real programs follows a default set for it
	@$(LAB) bench heap

bench-agent: ## Compare what the node agent costs, and what pods see of it, with memtierd
	@$(LAB) bench agent $(BENCH_ARGS)

bench-births: ## Tell how soon a new container has its default, and what its start costs more
	@$(LAB) bench births $(BENCH_ARGS)

bench-first-pages: ## Compare where new pods' first pages are, by each way to place them: a quarter of an hour
	@$(LAB) bench first-pages $(BENCH_ARGS)

bench-operator: ## Measure the operator with up to 5,000 nodes and 100,000 pods: half an hour
	@$(LAB) bench operator $(BENCH_ARGS)

docs: ## Build the documentation site in out/site; a dead link is an error
	@$(IN_LAB) sh -c '$(SYNC) && NO_MKDOCS_2_WARNING=1 exec mkdocs build'

build: ## Build what the cluster is made of: programs, kernel, disk, images
	@$(LAB) build

lab-up: ## Bring up a cluster with memplace installed (TOPOLOGY=hmat, two or cxl)
	@$(LAB) up --topology $(or $(TOPOLOGY),hmat)

lab-shell: ## Open a shell with kubectl and helm for the running cluster
	@$(LAB) shell --topology $(or $(TOPOLOGY),hmat)

lab-down: ## End every running cluster
	@$(LAB) down

clean-cache: lab-down ## Remove everything that was built
	@lab/clean-cache

lock: ## Resolve the Python dependencies anew
	@$(IN_LAB) uv lock

# Without root, and without the lab's root file system: uv, and what CONTRIBUTING.md says.
HAS_UV := command -v uv >/dev/null || { echo "uv is not on the path: the first lines of CONTRIBUTING.md install it" >&2; exit 1; }
# Of its own: nothing but the agent and what it needs.
TRY := UV_PROJECT_ENVIRONMENT=out/try uv run --quiet --locked --no-default-groups --package memplace-agent memplace-agent
ROOTLESS := uv run --quiet --locked --all-groups

try: ## Show what memplace sees of a process of yours and would do to it (PID=...); no root, no change
	@$(HAS_UV)
	@$(TRY) machine
	@printf '\n%s, if all its heap were wanted on cxl (examples/heap-on-cxl.yaml):\n\n' \
	    "$(if $(PID),Process $(PID),Of your processes the one with most memory)"
	@$(TRY) inspect --pid $(or $(PID),largest) --file examples/heap-on-cxl.yaml --limit 8

unit: ## Static checks and unit tests, as `make check`; no root
	@$(HAS_UV)
	@$(ROOTLESS) lab/test --fast

chart: ## Render and lint the chart with the helm on the path; no root
	@diff -r crds charts/memplace/files/crds
	@helm lint --strict charts/memplace --kube-version 1.35.0
	@helm template memplace charts/memplace --kube-version 1.35.0 >/dev/null

version: ## Raise the version everywhere (TO=0.2.0); no root
	@$(HAS_UV)
	@PYTHONPATH=lab/src python3 -m memplace_lab version $(TO) && uv lock --quiet

release: ## Make the files of a release from the commit, in out/release (ALLOW_DIRTY=1 to try); no root
	@$(HAS_UV)
	@$(ROOTLESS) python -m memplace_lab release
