# SPDX-License-Identifier: Apache-2.0
"""What two tiny files tell of a container; on real processes in a cgroup of text files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from memplace_agent.containers.index import CgroupRef
from memplace_agent.engine.pulse import BEAT_S, Pulse
from memplace_agent.hostfs import HostFs

# Maps as many pages as it is told, each time in a mapping of its own.
_GROWS = """
import mmap, sys
kept = []
print(flush=True)
for line in sys.stdin:
    kept.append(mmap.mmap(-1, int(line) * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE))
    print(flush=True)
"""


class Grower:
    """A real process that grows when told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _GROWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    @property
    def pid(self) -> int:
        return self.process.pid

    def grow(self, pages: int = 1024) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{pages}\n")
        self.process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self.process.stdout
        self.process.stdout.readline()


@pytest.fixture
def grower() -> Iterator[Grower]:
    grower = Grower()
    yield grower
    grower.process.kill()
    grower.process.wait()


class Node:
    """Containers as directories with a cgroup.procs, and a clock."""

    def __init__(self, root: Path) -> None:
        self.root, self.now, self.took = root, 100.0, 0.0
        self.refs: dict[str, CgroupRef] = {}
        self._spent = 0.0
        self.pulse = Pulse(HostFs(), clock=lambda: self.now, cost=self._cost)

    def put(self, name: str, *pids: int, below: str = "") -> None:
        path = self.root / name
        (path / below).mkdir(parents=True, exist_ok=True)
        (path / "cgroup.procs").write_text("")
        (path / below / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        self.refs[name] = CgroupRef(self.root, path, "uid")

    def beat(self, after: float = BEAT_S) -> set[str]:
        self.now += after
        return set(self.pulse.beat(self.refs))

    def _cost(self) -> float:
        self._spent += self.took
        return self._spent


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_what_stays_as_it_is_is_not_reported(node: Node, grower: Grower) -> None:
    node.put("a", grower.pid)
    assert [node.beat() for _ in range(4)] == [set()] * 4


def test_a_process_that_grows_is_felt_once(node: Node, grower: Grower) -> None:
    node.put("a", grower.pid)
    node.put("b", os.getppid())
    node.beat()
    grower.grow()
    assert node.beat() == {"a"}
    assert node.beat() == set()


def test_a_process_that_comes_or_goes_is_felt(node: Node, grower: Grower) -> None:
    node.put("a", grower.pid)
    node.beat()
    node.put("a", grower.pid, os.getppid())
    assert node.beat() == {"a"}
    node.put("a")
    assert node.beat() == {"a"}


def test_a_cgroup_below_counts(node: Node, grower: Grower) -> None:
    node.put("a", grower.pid, below="container")
    node.beat()
    grower.grow()
    assert node.beat() == {"a"}


def test_of_many_processes_each_has_its_turn(node: Node, grower: Grower) -> None:
    node.put("a", *range(1 << 22, (1 << 22) + 200), grower.pid)
    node.beat()
    for _ in range(8):
        node.beat()
    grower.grow()
    assert "a" in set().union(*(node.beat() for _ in range(8)))


def test_a_container_that_is_new_or_gone_is_no_change(node: Node, grower: Grower) -> None:
    node.beat()
    node.put("a", grower.pid)
    assert node.beat() == set()
    del node.refs["a"]
    assert node.beat() == set()


def test_nothing_is_read_before_a_beat_is_due(node: Node, grower: Grower) -> None:
    node.put("a", grower.pid)
    node.beat()
    grower.grow()
    assert node.beat(after=BEAT_S / 2) == set()
    assert node.beat(after=BEAT_S / 2) == {"a"}


def test_a_beat_that_costs_much_is_paid_off_first(node: Node, grower: Grower) -> None:
    node.put("a", grower.pid)
    node.took = 0.05
    node.beat()
    grower.grow()
    assert node.beat(after=9.0) == set()
    assert node.beat(after=1.0) == {"a"}
