# SPDX-License-Identifier: Apache-2.0
"""The kernel's tests and those of its neighbours, on every base and flavour."""
