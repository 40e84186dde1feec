# SPDX-License-Identifier: Apache-2.0
"""An agent looks at a process with as many mappings as there may be, and at its neighbours.

python3 -m tests.faults.crowd     as process 1 of a pid namespace, as root
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from memplace.kinds import RegionKind
from memplace.reasons import Reason
from memplace_agent.containers.identity import Identities
from memplace_agent.containers.pinning import Pinner
from memplace_agent.engine.pool import Pool
from memplace_agent.engine.survey import DEADLINE_S, Surveyor
from memplace_agent.metrics import Metrics
from memplace_agent.procfs.process import Reader
from memplace_agent.procfs.query import Way, best_way

from tests.faults.real import RealMachine, real_node
from tests.support.agent.node import placement, pod, rule
from tests.support.cgroups import tree

# What a line of maps could be taken for, and bytes that are no text.
NAMES = (
    b"a\n7f0000000000-7f0000001000 rw-p 00000000 00:00 0 [heap]",
    b"[heap]",
    b"[stack]",
    b"[anon: x]",
    b"\xff\xfe\x80",
    b"tab\tand ] and )",
)

_CROWD = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, *[ctypes.c_size_t] * 5]
folder = os.fsencode(sys.argv[1])
for name in os.listdir(folder):
    handle = os.open(os.path.join(folder, name), os.O_RDWR)
    assert libc.mmap(None, 4096, 1, 2, handle, 0) != 2**64 - 1
    os.close(handle)
# Neighbours that can't be merged, up to the most there may be.
count = sum(1 for _ in open("/proc/self/maps", "rb"))
pages = int(sys.argv[2]) - count
at = libc.mmap(None, pages * 4096, 1, 0x22, -1, 0) if pages > 0 else None
for page in range(1, pages, 2):
    if libc.mprotect(ctypes.c_void_p(at + page * 4096), ctypes.c_size_t(4096), 3):
        break
print("ready", flush=True)
sys.stdin.read()
"""

_NEIGHBOUR = """
import sys
kept = bytearray(8 << 20)
print("ready", flush=True)
sys.stdin.read()
"""


def lines_of_maps(pid):
    return Path(f"/proc/{pid}/maps").read_bytes().split(b"\n")[:-1]


def survey(machine, way, child):
    """Read it as the agent does; returns what was read and the seconds that took."""
    surveyor = Surveyor(machine.host, Reader(machine.host, machine, way), Pool(), Metrics())
    pinner = Pinner(machine.host, machine, Identities(unique_inodes=True))
    begin = time.monotonic()
    with pinner.pin(child.pid, lambda _: True) as pinned:
        found = surveyor.read(pinned, "ns")
    return found, time.monotonic() - begin


def check_survey(found, pid, folder):
    assert found.incomplete is None, found.incomplete
    expected = lines_of_maps(pid)
    assert len(expected) > 65_500, len(expected)
    starts = [int(line.split(b"-")[0], 16) for line in expected if b"[vsyscall]" not in line]
    assert [vma.start for vma in found.view.vmas if vma.path != "[vsyscall]"] == starts
    assert [region.start for region in found.regions()] == starts
    # A name makes nobody's file a heap or a stack, and is read as it is.
    files = {os.fsencode(region.path): region.kind for region in found.regions() if region.path}
    names = {os.fsencode(folder / os.fsdecode(name)) for name in NAMES}
    assert names <= files.keys(), sorted(files)
    assert {files[name] for name in names} == {RegionKind.FILE}


def check_pass(machine):
    """All containers get their turn, however large one of them is."""
    node = real_node(machine)
    wanted = placement(rules=[rule({"type": "Heap"}, "PreferredMany", "dram")])
    found = node.full(wanted, pods=[pod(ids=("a", "b", "c"))], seconds=1)
    reasons = [found["mp", "p", name].reason for name in ("c0", "c1", "c2")]
    assert reasons == [Reason.PLACED, Reason.TOO_MANY_MAPPINGS, Reason.PLACED], reasons


def main():
    ways = {Way.MAPS, best_way(0)}
    with tempfile.TemporaryDirectory() as root, tree() as top:
        folder = Path(root) / "files"
        folder.mkdir()
        for name in NAMES:
            (folder / os.fsdecode(name)).write_bytes(b"x")
        machine = RealMachine(top, Path(root) / "machine")
        most = Path("/proc/sys/vm/max_map_count").read_text()
        machine.start("a" * 64, _NEIGHBOUR)
        crowd = machine.start("b" * 64, _CROWD, folder, most)
        machine.start("c" * 64, _NEIGHBOUR)
        for way in ways:
            found, took = survey(machine, way, crowd)
            print(way, len(found.view.vmas), f"{took:.3f} s")
            check_survey(found, crowd.pid, folder)
            assert took < DEADLINE_S
        check_pass(machine)


if __name__ == "__main__":
    main()
