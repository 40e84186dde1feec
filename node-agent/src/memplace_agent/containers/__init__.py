# SPDX-License-Identifier: Apache-2.0
"""From a container's id to its cgroup, its processes, and each of them pinned."""
