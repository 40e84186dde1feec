# SPDX-License-Identifier: Apache-2.0
"""An agent on real processes in real cgroups.

Only process_mbind() is none: it says that all is done, and does nothing. The NUMA nodes are
those of the machine of text files.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from memplace_agent.engine.pool import Pool
from memplace_agent.procfs.exclusive import exclusive
from memplace_agent.procfs.present import present
from memplace_agent.procfs.query import best_way, read_vmas
from memplace_agent.procfs.smaps import shares
from memplace_agent.syscalls import RunningKernel
from memplace_agent.syscalls.moves import move_pages
from memplace_agent.syscalls.views import page_nodes

from tests.support.agent.machine import Machine
from tests.support.agent.node import Node


class RealMachine:
    """The running machine. `opened` counts processes that were pinned, `calls` are policies."""

    version = 2

    def __init__(self, top, root):
        self.top = top
        self.host = replace(Machine(root).host, proc=Path("/proc"), cgroup=top.parent)
        self.opened = self.calls = 0
        self._kernel = RunningKernel(None)

    def pidfd_open(self, pid):
        pidfd = self._kernel.pidfd_open(pid)
        self.opened += 1
        return pidfd

    def is_alive(self, pidfd):
        return self._kernel.is_alive(pidfd)

    def process_mbind(self, _pidfd, ranges, _policy, _flags):
        self.calls += 1
        return sum(end - start for start, end in ranges)

    def set_future(self, _pidfd, _policy, _future, _least):
        self.calls += 1

    read_vmas = staticmethod(read_vmas)
    page_nodes = staticmethod(page_nodes)
    move_pages = staticmethod(move_pages)
    present = staticmethod(present)
    exclusive = staticmethod(exclusive)
    shares = staticmethod(shares)

    def start(self, container_id, code, *args):
        """Run Python code in a container; returns once it has said its first line."""
        pod = self.top / "kubepods.slice/kubepods-poduid_p.slice"
        cgroup = pod / f"cri-containerd-{container_id}.scope"
        cgroup.mkdir(parents=True, exist_ok=True)
        enter = f"open({str(cgroup / 'cgroup.procs')!r}, 'w').write('0')\n"
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", enter + code, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        return child


def real_node(machine):
    node = Node(None, machine, Pool())
    node.way = best_way(0)
    node.start()
    return node


def count_fds():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
