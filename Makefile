# SPDX-License-Identifier: Apache-2.0
.PHONY: help check
help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20
