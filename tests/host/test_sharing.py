# SPDX-License-Identifier: Apache-2.0
"""Memory that several processes map is placed for all of them, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from memplace_agent.engine import measure
from memplace_agent.procfs.smaps import SMALL

from tests.support.guest.harness import (
    MIB,
    Agent,
    Target,
    count_memory,
    is_on_cxl,
    joining,
    line_of,
    pages_of,
    scope,
    start_as_user,
    world,
)

pytestmark = pytest.mark.guest("patched")

SEGMENT = "/run/segment"
RULE = [{"type": "File", "path": SEGMENT}]
PAGES = 256  # per MiB
# Each policy takes reads of all processes, twice.
LONG = 90


class Mapper:
    """A process that maps a segment, in the container or, `stray`, in no pod."""

    def __init__(self, how="touch", *, path=SEGMENT, mib=8, stray=False):
        self.process = start_as_user("segment.py", path, str(mib), how)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.commands, self.answers = self.process.stdin, self.process.stdout
        hello = json.loads(self.answers.readline())
        self.start, self.child = hello["start"], hello["child"]
        for pid in filter(None, (self.pid, self.child)):
            if not stray:
                (scope() / "cgroup.procs").write_text(str(pid))

    @property
    def pid(self):
        return self.process.pid

    @property
    def line(self):
        return line_of(self.pid, self.start)

    @property
    def pages(self):
        """Of all parts that the mapping has by now."""
        found: dict[int, int] = {}
        for line in Path(f"/proc/{self.pid}/numa_maps").read_text().splitlines():
            if f"file={SEGMENT}" in line:
                for node, pages in pages_of(self.pid, int(line.split()[0], 16)).items():
                    found[node] = found.get(node, 0) + pages
        return found

    @property
    def is_intact(self):
        print("check", file=self.commands, flush=True)
        return json.loads(self.answers.readline())["intact"]

    def end(self):
        self.commands.close()
        self.process.wait()


def _clear():
    Path(SEGMENT).unlink(missing_ok=True)


def test_shared_memory_is_moved_once_and_comes_back_through_another_process():
    first, second = Mapper("fill"), Mapper()
    assert first.pages == second.pages == {0: 8 * PAGES}, (first.line, second.line)
    agent = Agent()
    found = agent.settle(world(regions=RULE), LONG)
    assert (found.state, found.reason) == ("Placed", "Placed"), found
    assert found.rules[0].bytes == 8 * MIB, found
    for mapper in (first, second):
        assert mapper.pages == {1: 8 * PAGES}, mapper.line
        assert is_on_cxl(mapper.line), mapper.line
        assert mapper.is_intact
    lines = Path(f"/proc/{second.pid}/numa_maps").read_text().splitlines()
    assert sum(f"file={SEGMENT}" in line for line in lines) == 1, lines
    first.end()
    assert agent.undo(LONG)
    third = Mapper()
    for mapper in (second, third):
        assert mapper.line.split()[1] == "default", mapper.line
    assert not list(Path("/run/memplace").iterdir())
    # And it can be set anew, by who had it before as well.
    agent = Agent()
    assert agent.settle(world(regions=RULE), LONG).state == "Placed"
    assert is_on_cxl(third.line), third.line
    assert agent.undo(LONG)
    assert third.line.split()[1] == "default", third.line
    second.end()
    third.end()
    _clear()


def test_a_mapping_without_a_policy_has_none_to_take_from_the_object():
    """Why memplace.objects_claim makes two calls: a kernel that changes this fails here."""
    from memplace.kinds import Mode, Policy

    first, second = Mapper("fill"), Mapper()
    kernel = Agent().engine.system.kernel
    nothing, cxl = Policy(Mode.DEFAULT), Policy(Mode.PREFERRED_MANY, frozenset({1}))

    def bind(mapper, policy):
        pidfd = kernel.pidfd_open(mapper.pid)
        kernel.process_mbind(pidfd, [(mapper.start, mapper.start + 8 * MIB)], policy, 0)
        os.close(pidfd)

    bind(first, cxl)
    assert is_on_cxl(second.line), second.line
    bind(second, nothing)
    assert is_on_cxl(second.line), second.line
    bind(second, cxl)
    bind(second, nothing)
    assert first.line.split()[1] == "default", first.line
    first.end()
    second.end()
    _clear()


def test_a_private_mapping_of_it_is_left_alone_for_its_policy_is_the_objects():
    """The second half is a fact of the kernel, and why: one that changes it fails here."""
    from memplace.kinds import Mode, Policy

    stray, own = Mapper("fill", stray=True), Mapper("private")
    agent = Agent()
    agent.until(world(regions=RULE), lambda: agent.report.state == "Failed", LONG)
    assert agent.report.reason == "SharedNotSupported", agent.report
    assert stray.line.split()[1] == own.line.split()[1] == "default", (stray.line, own.line)
    assert agent.undo(LONG)
    kernel, cxl = agent.engine.system.kernel, Policy(Mode.PREFERRED_MANY, frozenset({1}))
    pidfd = kernel.pidfd_open(own.pid)
    kernel.process_mbind(pidfd, [(own.start, own.start + 8 * MIB)], cxl, 0)
    os.close(pidfd)
    assert is_on_cxl(stray.line), stray.line
    own.end()
    stray.end()
    _clear()


def test_memory_without_a_name_is_placed_for_parent_and_child():
    parent = Mapper("fill", path="-")
    agent = Agent()
    found = agent.settle(world(regions=[{"type": "Shared"}]), LONG)
    assert found.state == "Placed" and found.rules[0].bytes == 8 * MIB, found
    for pid in (parent.pid, parent.child):
        assert is_on_cxl(line_of(pid, parent.start)), line_of(pid, parent.start)
    assert agent.undo(LONG)
    for pid in (parent.pid, parent.child):
        assert line_of(pid, parent.start).split()[1] == "default"
    parent.end()


def test_a_mapper_of_no_pod_prevents_it():
    own, stray = Mapper("fill"), Mapper(stray=True)
    agent = Agent()
    agent.until(world(regions=RULE), lambda: agent.report.state == "Failed", LONG)
    found = agent.report
    assert found.reason == "SharedWithOthers", found
    assert f"process {stray.pid}, which is in no pod" in found.message, found
    assert own.pages == stray.pages == {0: 8 * PAGES}
    assert own.line.split()[1] == "default", own.line
    # Once it is gone nothing is in the way; an agent that starts anew sees that at once.
    stray.end()
    agent = Agent()
    assert agent.settle(world(regions=RULE), LONG).state == "Placed"
    assert own.pages == {1: 8 * PAGES}
    assert agent.undo(LONG)
    own.end()
    _clear()


def test_a_mapper_that_comes_during_the_work_ends_it_and_what_was_set_comes_back():
    own = Mapper("fill", mib=64)
    agent = Agent(bandwidth=2 * MIB)
    wanted = world(regions=RULE)
    assert agent.until(wanted, lambda: own.pages.get(1, 0) > 0, LONG), own.line
    assert is_on_cxl(own.line), own.line
    stray = Mapper(mib=64, stray=True)
    agent.until(wanted, lambda: agent.report.reason == "SharedWithOthers", seconds=LONG)
    assert agent.report.reason == "SharedWithOthers", agent.report
    left = own.pages
    assert left.get(0, 0) > 32 * PAGES, left
    for mapper in (own, stray):
        assert mapper.line.split()[1] == "default", mapper.line
    agent.until(wanted, lambda: False, seconds=3)
    assert own.pages == left, (own.pages, left)
    stray.end()
    assert agent.undo(LONG)
    own.end()
    _clear()


@pytest.mark.parametrize("small", [SMALL, 0])
def test_pages_of_a_fork_count_once(monkeypatch, small):
    """What others map is told by smaps, and of larger processes by the cgroup's account."""
    monkeypatch.setattr(measure, "SMALL", small)
    count_memory()
    with joining() as join:
        target = Target(join)
    # As of any program that is not root's.
    assert not os.access(f"/proc/{target.pid}/pagemap", os.R_OK, effective_ids=True)
    agent = Agent()
    before = agent.settle(world(), LONG).rules[0]
    child = target.do("fork")["pid"]
    agent.until(world(), lambda: agent.report.rules[0].regions > before.regions, seconds=LONG)
    found = agent.settle(world(), LONG).rules[0]
    assert found.regions > before.regions, found  # those of the child as well
    assert pages_of(child, target.hello["anon"]) == {1: 4 * PAGES}
    # What the child has written to since is its own.
    assert before.bytes <= found.bytes <= before.bytes + 2 * MIB, (before, found)
    assert agent.undo(LONG)
    target.end()
