# SPDX-License-Identifier: Apache-2.0
# Most of it runs inside the lab's own Debian root (lab/enter): the host needs
# nothing but Debian's apt and root. What needs no root is at the end.
.PHONY: help version release try unit chart demo test check test-long test-kernel test-kernel-full bench-kernel bench-heap bench-agent bench-births bench-first-pages bench-operator docs build lab-up lab-down lab-shell clean-cache generate lock

IN_LAB := lab/enter
SYNC := uv sync --quiet --all-groups
LAB := $(IN_LAB) sh -c '$(SYNC) && exec python3 -m memplace_lab "$$@"' lab

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

demo: ## Bring up a cluster with memory tiers and move a running pod to CXL (TOPOLOGY=hmat, or two)
	@$(LAB) demo --topology $(or $(TOPOLOGY),hmat)

test: ## Run all tests: static checks, unit, CRD, chart, image, kernel and end-to-end tests
	@$(IN_LAB) sh -c '$(SYNC) && exec lab/test'

check: ## Run the fast part of the tests: static checks and unit tests
	@$(IN_LAB) sh -c '$(SYNC) && exec lab/test --fast'

test-long: ## Run the long tests: faults of agent and operator, Flux and Argo CD, AppArmor, more of the cluster, 100,000 fuzzed objects: over an hour
	@$(IN_LAB) sh -c '$(SYNC) && MEMPLACE_LONG=yes exec lab/test faults crd operator_process gitops apparmor e2e_long'

test-kernel: ## Boot the patched kernel on five kinds of machines and run its tests
	@$(IN_LAB) sh -c '$(SYNC) && exec lab/test kernel'

test-kernel-full: ## Do the same for every base and debug flavour: hours; continues an interrupted run
	@$(LAB) matrix

bench-kernel: ## Compare process_mbind() with the other calls, including the delays of the moved process
	@$(LAB) bench kernel

bench-heap: ## Measure how much of the heap of real programs follows a default set for it
	@$(LAB) bench heap

bench-agent: ## Compare the node agent with memtierd: costs, and effects on pods
	@$(LAB) bench agent $(BENCH_ARGS)

bench-births: ## Measure how soon a new container has its default, and how much longer it takes to start
	@$(LAB) bench births $(BENCH_ARGS)

bench-first-pages: ## Compare where the first pages of new pods are, with each way to place them: a quarter of an hour
	@$(LAB) bench first-pages $(BENCH_ARGS)

bench-operator: ## Measure the operator with up to 5,000 nodes and 100,000 pods: half an hour
	@$(LAB) bench operator $(BENCH_ARGS)

docs: ## Build the documentation site in out/site; a dead link is an error
	@$(IN_LAB) sh -c '$(SYNC) && NO_MKDOCS_2_WARNING=1 exec mkdocs build'

build: ## Build the parts of the cluster: programs, kernel, disk, images
	@$(LAB) build

lab-up: ## Bring up a cluster with memplace installed (TOPOLOGY=hmat, two or cxl)
	@$(LAB) up --topology $(or $(TOPOLOGY),hmat)

lab-shell: ## Open a shell with kubectl and helm for the running cluster
	@$(LAB) shell --topology $(or $(TOPOLOGY),hmat)

lab-down: ## End every running cluster
	@$(LAB) down

clean-cache: lab-down ## End every running cluster and remove everything that was built
	@lab/clean-cache

generate: ## Write the files that are made of others: the chart's definitions and table, reference pages
	@$(IN_LAB) sh -c '$(SYNC) && python tests/crd/cluster.py && cp crds/*.yaml charts/memplace/files/crds/ \
	    && python tests/support/chart_readme.py \
	    && python tests/support/schemas.py && python tests/unit/docs_pkg/reference.py'

lock: ## Resolve the Python dependencies again
	@$(IN_LAB) uv lock

# Without root, and without the lab's root file system: uv, and what CONTRIBUTING.md says.
HAS_UV := command -v uv >/dev/null || { echo "uv is not on the path: the first lines of CONTRIBUTING.md install it" >&2; exit 1; }
# Of its own: nothing but the agent and what it needs.
TRY := UV_PROJECT_ENVIRONMENT=out/try uv run --quiet --locked --no-default-groups --package memplace-agent memplace-agent
ROOTLESS := uv run --quiet --locked --all-groups

try: ## Show what memplace sees in a process of yours and would do to it (PID=...); no root, no change
	@$(HAS_UV)
	@$(TRY) machine
	@printf '\n%s, if all its heap were wanted on cxl (examples/heap-on-cxl.yaml):\n\n' \
	    "$(if $(PID),Process $(PID),Of your processes the one with most memory)"
	@$(TRY) inspect --pid $(or $(PID),largest) --file examples/heap-on-cxl.yaml --limit 8

unit: ## Run static checks and unit tests, as `make check` does; no root
	@$(HAS_UV)
	@$(ROOTLESS) lab/test --fast

chart: ## Render and lint the chart with the helm on the path; no root
	@diff -r crds charts/memplace/files/crds
	@helm lint --strict charts/memplace --kube-version 1.35.0
	@helm template memplace charts/memplace --kube-version 1.35.0 >/dev/null

version: ## Raise the version everywhere (TO=0.2.0); no root
	@$(HAS_UV)
	@PYTHONPATH=lab/src python3 -m memplace_lab version $(TO) && uv lock --quiet

release: ## Make the files of a release of the commit in out/release (ALLOW_DIRTY=1 to try, DPKG=...); no root
	@$(HAS_UV)
	@RELEASE_URL="$(RELEASE_URL)" $(ROOTLESS) python -m memplace_lab release $(if $(DPKG),--dpkg $(DPKG))
