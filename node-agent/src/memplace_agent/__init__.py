# SPDX-License-Identifier: Apache-2.0
"""The node agent of memplace: places and measures the memory of pods."""
