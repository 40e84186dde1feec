# SPDX-License-Identifier: Apache-2.0
"""What sysfs shows of the machine's memory, read into plain values."""

from memplace_agent.sysfs.numa import read_numa_nodes

__all__ = ["read_numa_nodes"]
