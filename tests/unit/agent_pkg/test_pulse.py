# SPDX-License-Identifier: Apache-2.0
"""What two tiny files tell of a container; on real processes in a cgroup of text files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from memplace_agent.containers import members
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine import pulse
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


def test_one_whose_processes_are_hidden_keeps_nobody_from_being_felt(
    node: Node, grower: Grower
) -> None:
    node.put("a", below="container")
    (node.root / "a/container/cgroup.procs").unlink()
    (node.root / "a/container/cgroup.procs").mkdir()
    node.put("b", grower.pid)
    node.beat()
    grower.grow()
    assert node.beat() == {"b"}


def test_an_error_nobody_thought_of_is_about_one_container_which_stays_as_it_was(
    tmp_path: Path, grower: Grower
) -> None:
    for pid in ("7", "8"):
        (tmp_path / "proc" / pid).mkdir(parents=True)
    odd = tmp_path / "proc/7/statm"
    odd.write_text("100 20 3\n")
    (tmp_path / "proc/8/statm").symlink_to(f"/proc/{grower.pid}/statm")
    node = Node(tmp_path)
    node.pulse = Pulse(HostFs(proc=tmp_path / "proc"), clock=lambda: node.now, cost=node._cost)
    node.put("a", 7)
    node.put("b", 8)
    node.beat()
    odd.write_text("100 odd 3\n")
    grower.grow()
    assert node.beat() == {"b"}
    odd.write_text("200 20 3\n")
    assert node.beat() == {"a"}


def test_of_very_many_cgroups_a_few_are_read(
    node: Node, grower: Grower, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1000):
        node.put("a", below=str(number))
    node.put("a", grower.pid, below="first")
    read: list[str] = []
    procs = members._procs
    monkeypatch.setattr(members, "_procs", lambda path: (read.append(path), procs(path))[1])
    node.beat()
    assert 0 < len(read) <= 128


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


def open_files() -> set[str]:
    links = list(Path("/proc/self/fd").iterdir())  # and one of its own, closed by now
    return {str(link.readlink()) for link in links if link.is_symlink()}


def test_files_stay_open_while_somebody_is_felt(node: Node, grower: Grower) -> None:
    statm = f"/proc/{grower.pid}/statm"
    node.put("a", grower.pid)
    node.beat()
    node.beat()
    assert {statm, f"{node.root}/a/cgroup.procs"} <= open_files()
    node.put("a")
    node.beat()
    node.beat()
    assert statm not in open_files()
    del node.refs["a"]
    node.beat()
    assert not {name for name in open_files() if name.startswith(str(node.root))}
    node.put("a", grower.pid)
    node.beat()
    node.pulse = Pulse(HostFs())
    assert statm not in open_files()


def test_a_process_with_the_number_of_one_that_ended_is_felt_once(
    tmp_path: Path, grower: Grower
) -> None:
    """The open file of a process that ended can't be read any more."""
    first = Grower()
    (tmp_path / "proc" / "7").mkdir(parents=True)
    link = tmp_path / "proc" / "7" / "statm"
    link.symlink_to(f"/proc/{first.pid}/statm")
    node = Node(tmp_path)
    node.pulse = Pulse(HostFs(proc=tmp_path / "proc"), clock=lambda: node.now, cost=node._cost)
    node.put("a", 7)
    node.beat()
    assert node.beat() == set()
    first.process.kill()
    first.process.wait()
    grower.grow()
    link.unlink()
    link.symlink_to(f"/proc/{grower.pid}/statm")
    assert node.beat() == {"a"}
    assert node.beat() == set()


def test_more_files_than_may_be_open_are_read_all_the_same(
    node: Node, grower: Grower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "_OPEN", 2)
    node.pulse = Pulse(HostFs(), clock=lambda: node.now, cost=node._cost)
    for name in ("a", "b", "c"):
        node.put(name, os.getppid())
    node.put("last", grower.pid)
    node.beat()
    node.beat()
    assert len([name for name in open_files() if name.startswith(str(node.root))]) <= 2
    grower.grow()
    assert node.beat() == {"last"}


@pytest.mark.parametrize(
    ("before", "after"),
    [((1024, 8192), (4096, 8192)), ((1024, 2048), (2048, 2048)), ((8192, 8192), (8192, 8192))],
)
def test_the_agent_may_have_as_many_files_open_as_its_pulses_need(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    program = (
        "import resource; from memplace_agent.engine.pulse import raise_open_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, {before})\n"
        "raise_open_files(); print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().strip() == str(after)
