# SPDX-License-Identifier: Apache-2.0
"""The agent moves memory of a process to another node, and gives back what it changed."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.guest.harness import (
    MIB,
    Agent,
    Target,
    is_on_cxl,
    line_of,
    pages_of,
    scope,
    world,
)

pytestmark = pytest.mark.guest("patched")


def test_probe_finds_the_call():
    from memplace_agent.procfs.query import Way

    assert Agent().way is Way.POLICY


def test_memory_moves_and_comes_back():
    target = Target()
    start, bound = target.hello["anon"], target.hello["bound"]
    assert set(pages_of(target.pid, start)) == {0}, line_of(target.pid, start)
    agent = Agent()
    found = agent.settle(world())
    assert found.state == "Placed", found
    for address in (start, bound, target.hello["heap"]):
        line = line_of(target.pid, address)
        assert is_on_cxl(line), line
        assert set(pages_of(target.pid, address)) == {1}, line
    measured = {node.id: node.bytes for node in found.rules[0].numa_nodes}
    assert set(measured) == {1} and measured[1] >= 8 * MIB, measured
    assert target.do("check")["intact"]
    assert "prefer" not in line_of(target.pid, target.hello["small"])
    assert agent.undo()
    assert line_of(target.pid, start).split()[1] == "default", line_of(target.pid, start)
    assert line_of(target.pid, bound).split()[1] == "bind:0", line_of(target.pid, bound)
    assert set(pages_of(target.pid, start)) == {1}
    assert not list(Path("/run/memplace").iterdir())
    target.end()


def test_new_mappings_and_children_are_placed_without_an_event():
    target = Target()
    agent = Agent()
    agent.settle(world())
    later = target.do("map")["start"]
    child = target.do("fork")["pid"]
    moved = agent.until(world(), lambda: set(pages_of(target.pid, later)) == {1})
    assert moved, line_of(target.pid, later)
    own = target.do("child-map")["start"]
    moved = agent.until(world(), lambda: set(pages_of(child, own)) == {1})
    assert moved, line_of(child, own)
    assert set(pages_of(child, target.hello["anon"])) == {1}
    assert agent.undo()
    for pid, address in ((target.pid, later), (child, own), (child, target.hello["anon"])):
        assert line_of(pid, address).split()[1] == "default", line_of(pid, address)
    target.end()


def test_a_child_that_no_look_has_seen_is_undone_too():
    target = Target()
    start = target.hello["anon"]
    agent = Agent()
    agent.settle(world())
    child = target.do("fork")["pid"]
    assert line_of(child, start).split()[1] == "prefer", line_of(child, start)
    assert agent.undo()
    for pid, address in itertools.product((target.pid, child), (start, target.hello["heap"])):
        assert line_of(pid, address).split()[1] == "default", line_of(pid, address)
    assert line_of(child, target.hello["bound"]).split()[1] == "bind:0"
    assert not list(Path("/run/memplace").iterdir())
    target.end()


def test_a_killed_agent_is_continued():
    target = Target()
    start = target.hello["anon"]
    Agent.leave()
    runner = subprocess.Popen([sys.executable, "-m", "tests.support.guest.dying", "once"])
    while not list(Path("/run/memplace").glob("*.json")) and runner.poll() is None:
        time.sleep(0.001)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert list(Path("/run/memplace").glob("*.json"))
    assert Agent().settle(world()).state == "Placed"
    assert set(pages_of(target.pid, start)) == {1}
    assert Agent().undo()
    assert line_of(target.pid, start).split()[1] == "default"
    assert line_of(target.pid, target.hello["bound"]).split()[1] == "bind:0"
    assert target.do("check")["intact"]
    target.end()


def test_the_cpuset_of_the_container_bounds_the_plan():
    target = Target()
    (scope() / "cpuset.mems").write_text("0")
    try:
        agent = Agent()
        agent.until(world(), lambda: agent.report.state == "Failed")
        found = agent.report
        assert (found.state, found.reason) == ("Failed", "NotAllowedByCpuset"), found
        assert line_of(target.pid, target.hello["anon"]).split()[1] == "default"
    finally:
        (scope() / "cpuset.mems").write_text("0-1")
    target.end()


def test_a_changed_cpuset_does_not_hide_our_policy_from_undo():
    target = Target()
    agent = Agent()
    assert agent.settle(world(mode="Bind")).state == "Placed"
    (scope() / "cpuset.mems").write_text("0")
    try:
        # The kernel has remapped our policy to node 0 by now.
        line = line_of(target.pid, target.hello["anon"])
        assert line.split()[1] == "bind=static:0", line
        assert agent.undo()
        line = line_of(target.pid, target.hello["anon"])
        assert line.split()[1] == "default", line
    finally:
        (scope() / "cpuset.mems").write_text("0-1")
    target.end()


def test_retiring_leaves_nothing_on_the_host():
    from memplace_agent.hostfs import HostFs
    from memplace_agent.retire import remove_host_files
    from memplace_agent.seccomp import install

    target = Target()
    agent = Agent()
    agent.settle(world())
    host = HostFs(seccomp=Path("/run/kubelet/seccomp/memplace"))
    install(host.seccomp, host)
    assert agent.reconciler.undo_all() == (True, "")
    remove_host_files(host)
    assert not host.journal.exists() and not host.seccomp.exists()
    assert host.seccomp.parent.is_dir()
    target.end()
