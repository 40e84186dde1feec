# SPDX-License-Identifier: Apache-2.0
"""The operator of memplace: checks, explains and aggregates placements."""
