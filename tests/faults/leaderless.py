# SPDX-License-Identifier: Apache-2.0
"""An agent looks at a process whose first thread ends while another runs on.

python3 -m tests.faults.leaderless     as process 1 of a pid namespace, as root
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from memplace.reasons import Reason

from tests.faults.real import RealMachine, real_node
from tests.support.agent.node import placement, pod, rule
from tests.support.cgroups import tree

_LEADER = """
import ctypes, sys, threading
kept = bytearray(8 << 20)
first = threading.Event()
# The other thread ends with the second line.
threading.Thread(target=lambda: (first.wait(), sys.stdin.readline())).start()
print("ready", flush=True)
sys.stdin.readline()
first.set()
ctypes.CDLL(None).syscall(60, 0)  # exit(2) of this thread alone, x86_64
"""


def tell(child):
    child.stdin.write("\n")
    child.stdin.flush()


def wait_for(true):
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def main():
    with tempfile.TemporaryDirectory() as root, tree() as top:
        machine = RealMachine(top, Path(root) / "machine")
        node = real_node(machine)
        child = machine.start("a" * 64, _LEADER)
        wanted = placement(rules=[rule({"type": "Heap"}, "PreferredMany", "dram")])
        node.full(wanted, pods=[pod()])
        (claim,) = node.claims
        assert claim.footprints

        tell(child)
        wait_for(lambda: Path(f"/proc/{child.pid}/maps").read_bytes() == b"")
        report = node.full(wanted, pods=[pod()], seconds=60)["mp", "p", "c0"]
        assert report.reason == Reason.LEADER_EXITED, report
        assert node.claims == (claim,)

        opened = machine.opened
        node.full(pods=[pod()], seconds=600)
        assert "first thread" in node.said["mp"].message, node.said["mp"]
        assert node.claims == (claim,)
        assert machine.opened - opened < 30, "it is hammered"

        tell(child)
        child.wait()
        node.run(600)
        assert not node.claims


if __name__ == "__main__":
    main()
