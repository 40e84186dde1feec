# SPDX-License-Identifier: Apache-2.0
"""What a look at one process with very many mappings costs the agent: time, and memory.

    lab/enter python3 bench/agent/look.py              # about a minute

The process is real, and so is all that reads it; two pages of three are written to, and they
alternate in permissions so that the kernel can't merge them. It has a rule that means nearly
all of its memory. Nothing is set in it:

- default: the rule wants the default policy, which everything has. Looks at it while nothing
  changes, and looks after a minute, when the pages are sampled again.
- refused: the rule wants a policy, which a process that is near vm.max_map_count does not get.

Each is looked at in two ways. ``as read`` is what this kernel tells, with numa_maps in the first
look where PROCMAP_QUERY tells no policy; ``with policy`` is the same mappings as kernels with
memplace's series tell them, all with the default. For each an agent is started anew. Memory is
what a look takes beyond what the agent has after looking at a small process: at most during
the looks (VmHWM), and afterwards (VmRSS).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from memplace.api.objects import parse_placement
from memplace.kinds import Mode, Policy
from memplace.matching import Matcher
from memplace_agent.containers.identity import Identities
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.build import Engine, System, open_ledger
from memplace_agent.engine.look import Container, Looker, _Process
from memplace_agent.engine.placer import Wanted
from memplace_agent.hostfs import HostFs
from memplace_agent.metrics import Metrics
from memplace_agent.node.senses import Senses
from memplace_agent.procfs.process import Reader
from memplace_agent.procfs.query import ReadVmas, Way, best_way, read_vmas
from memplace_agent.procfs.vmas import PolicySource
from memplace_agent.settings import Settings
from memplace_agent.syscalls import RunningKernel
from memplace_agent.syscalls.features import Features, procmap_query_size

_CASES = [(rule, way) for rule in ("default", "refused") for way in ("as read", "with policy")]

# A slot is two pages that are written to and one that can't be. See read.py for the guard.
_MANY = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
page = mmap.PAGESIZE
own = sum(1 for _ in open("/proc/self/maps"))
slots = max(int(sys.argv[1]) - own - 2, 2) // 2
start = libc.mmap(None, ctypes.c_size_t(slots * 3 * page), 3, 0x22, -1, 0)
for slot in range(slots):
    at = start + slot * 3 * page
    ctypes.memset(ctypes.c_void_p(at), 1, 2 * page)
    if libc.mprotect(ctypes.c_void_p(at + 2 * page), ctypes.c_size_t(page), 1):
        raise OSError(ctypes.get_errno(), "mprotect")
print(flush=True)
input()
"""


@contextlib.contextmanager
def _program(mappings: int) -> Iterator[int]:
    command = [sys.executable, "-S", "-c", _MANY, str(mappings)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def _memory(name: str) -> float:
    # MiB
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def _with_policy(directory: Path, _way: Way, deadline: float, limit: int) -> ReadVmas:
    found = read_vmas(directory, best_way(procmap_query_size(HostFs())), deadline, limit)
    default = Policy(Mode.DEFAULT)
    classes = (replace(c, policy=default, source=PolicySource.TASK) for c in found.vmas.classes)
    return replace(found, vmas=replace(found.vmas, classes=tuple(classes)))


def _wanted(rule: str) -> Wanted:
    policy = {"mode": "Default"} if rule == "default" else {"mode": "Bind", "tiers": ["dram"]}
    rules = [{"name": "heap", "regions": [{"type": "Heap", "minSize": "1Mi"}], "policy": policy}]
    metadata = {"name": "mp", "namespace": "ns", "uid": "uid", "generation": 1}
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
    spec = {"selector": {"matchLabels": {"app": "x"}}, "rules": rules}
    placement = parse_placement({"metadata": metadata, "spec": spec})
    return Wanted(
        placement=placement,
        matcher=Matcher(placement.spec.rules),
        container_id="a" * 64,
        tiers={"dram": frozenset({0})},
        known_tiers=frozenset({"dram"}),
        max_mappings=int(Path("/proc/sys/vm/max_map_count").read_text()),
    )


class _Agent:
    """What looks at processes, with a clock that the bench sets; see `Looker`."""

    def __init__(self, journal: Path, rule: str, way: str) -> None:
        host, kernel = HostFs(journal=journal), RunningKernel(None)
        self.now = time.monotonic()
        self.container = Container(_wanted(rule))
        reader = Reader(host, kernel, best_way(procmap_query_size(host)))
        if way == "with policy":
            reader = Reader(host, kernel, Way.POLICY, ask=_with_policy)
        engine = Engine(
            Settings(node_name="n", host=host),
            System(
                kernel=kernel,
                reader=reader,
                identities=Identities(unique_inodes=True),
                senses=Senses(host),
                clock=lambda: self.now,
            ),
            Features(0, 0, flags=0),
            Metrics(),
        )
        self.looker: Looker = engine.reconciler(open_ledger(host))._parts.looker

    def look(self, pid: int) -> float:
        """Look at a process; returns milliseconds of this program's processor time."""
        ref = CgroupRef(Path("/"), Path("/none"), "uid")
        begin = time.process_time()
        with self.looker.pinner.pin(pid, _is_member) as pinned:
            known = self.container._processes.setdefault(pinned.identity, _Process(pid))
            self.looker._process(self.container, pinned, known, ref, _is_member)
            assert known.outcome is not None, known.problem
        return 1000 * (time.process_time() - begin)


def _is_member(_pid: int) -> bool:
    return True


def _case(rule: str, way: str, mappings: int, rounds: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as journal,
        _program(200) as small,
        _program(mappings) as large,
    ):
        agent = _Agent(Path(journal), rule, way)
        for _ in range(3):
            agent.look(small)
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        first = agent.look(large)
        unchanged = [agent.look(large) for _ in range(rounds)]
        again = []
        for _ in range(rounds):
            agent.now += 61
            again.append(agent.look(large))
        return {
            "rule": rule,
            "way": way,
            "first look ms": round(first),
            "nothing changed ms": round(statistics.median(unchanged)),
            "sampled again ms": round(statistics.median(again)),
            "at most MiB": round(_memory("VmHWM") - before, 1),
            "held MiB": round(_memory("VmRSS") - before, 1),
        }


def _table(rows: list[dict[str, Any]]) -> str:
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(row[key]) for key in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Measure looks at a process of many mappings.")
    parser.add_argument("--mappings", type=int, default=65530)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", nargs=2, metavar=("RULE", "WAY"), help="only this, as JSON")
    options = parser.parse_args()
    if options.case:
        rule, way = options.case
        print(json.dumps(_case(rule, way, options.mappings, options.rounds)))
        return
    print(f"Linux {os.uname().release}, load {os.getloadavg()[0]:.1f}\n")
    sizes = [f"--mappings={options.mappings}", f"--rounds={options.rounds}"]
    rows = [
        json.loads(
            subprocess.run(
                [sys.executable, __file__, *sizes, "--case", *case],
                check=True,
                stdout=subprocess.PIPE,
            ).stdout
        )
        for case in _CASES
    ]
    print(_table(rows))


if __name__ == "__main__":
    main()
