# SPDX-License-Identifier: Apache-2.0
"""Our kernel tests and those of other projects, on every base and flavour."""
