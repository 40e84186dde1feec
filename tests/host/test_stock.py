# SPDX-License-Identifier: Apache-2.0
"""On a kernel that has no process_mbind() the agent can move pages, and say where they are."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from tests.support.guest.harness import (
    LARGE_ON_CXL,
    MIB,
    Agent,
    Target,
    inspected,
    line_of,
    pages_of,
    scope,
    world,
)

pytestmark = pytest.mark.guest("stock")


def test_the_probe_finds_move_pages_and_says_why_nothing_better():
    from memplace_agent.backends.choice import choose
    from memplace_agent.hostfs import HostFs
    from memplace_agent.syscalls.features import probe

    features = probe(HostFs())
    assert features.reason == "KernelWithoutProcessMbind", features
    assert features.move_error is None and features.look_error is None, features
    chosen = choose(features)
    assert (chosen.name, chosen.is_sticky) == ("MovePages", False), chosen
    assert chosen.capabilities == ("Measures", "Moves"), chosen
    assert "does not announce process_mbind()" in chosen.message, chosen.message


def test_best_effort_moves_pages_and_says_that_they_may_not_stay():
    target = Target()
    hello = target.hello
    assert set(pages_of(target.pid, hello["anon"])) == {0}, line_of(target.pid, hello["anon"])
    agent = Agent(stock=True)
    found = agent.settle(world(unsupported="BestEffort"))
    assert (found.state, found.reason) == ("PlacedBestEffort", "PlacedBestEffort"), found
    assert found.sticky is False, found
    for address in (hello["anon"], hello["bound"], hello["heap"]):
        assert set(pages_of(target.pid, address)) == {1}, line_of(target.pid, address)
    measured = {node.id: node.bytes for node in found.rules[0].numa_nodes}
    assert set(measured) == {1} and measured[1] >= 8 * MIB, measured
    assert target.do("check")["intact"]
    # The program's policies are what they were, and nobody claims one.
    assert line_of(target.pid, hello["anon"]).split()[1] == "default"
    assert line_of(target.pid, hello["bound"]).split()[1] == "bind:0"
    assert 1 not in pages_of(target.pid, hello["small"]), line_of(target.pid, hello["small"])
    assert not list(Path("/run/memplace").glob("*.json"))
    # Nor is there anything to give back: pages stay where they are.
    assert agent.undo()
    assert set(pages_of(target.pid, hello["anon"])) == {1}
    target.end()


def test_memory_that_comes_later_is_moved_when_it_is_found():
    target = Target()
    agent = Agent(stock=True)
    agent.settle(world(unsupported="BestEffort"))
    later = target.do("map")["start"]
    assert 0 in pages_of(target.pid, later), line_of(target.pid, later)
    wanted = world(unsupported="BestEffort")
    assert agent.until(wanted, lambda: set(pages_of(target.pid, later)) == {1})
    child = target.do("fork")["pid"]
    own = target.do("child-map")["start"]
    assert agent.until(wanted, lambda: set(pages_of(child, own)) == {1}), line_of(child, own)
    assert agent.settle(wanted).state == "PlacedBestEffort"
    assert target.do("check")["intact"]
    target.end()


def test_observe_moves_nothing_and_says_where_bytes_are():
    target = Target()
    agent = Agent(stock=True)
    wanted = world(unsupported="Observe")
    assert agent.until(wanted, lambda: agent.report.state == "Observed"), agent.report
    end = time.monotonic() + 5
    agent.until(wanted, lambda: time.monotonic() > end)
    found = agent.report
    assert (found.state, found.reason) == ("Observed", "Observed"), found
    (rule,) = found.rules
    assert {node.id for node in rule.numa_nodes} == {0} and rule.misplaced_bytes >= 8 * MIB, rule
    for name in ("anon", "bound", "heap", "small"):
        address = target.hello[name]
        assert set(pages_of(target.pid, address)) == {0}, line_of(target.pid, address)
    target.end()


def test_by_default_a_pod_is_left_alone():
    target = Target()
    agent = Agent(stock=True)
    agent.until(world(), lambda: False, seconds=2)
    found = agent.report
    assert (found.state, found.reason) == ("Unsupported", "KernelWithoutProcessMbind"), found
    assert not found.rules
    assert set(pages_of(target.pid, target.hello["anon"])) == {0}
    target.end()


def test_the_cpuset_of_the_container_bounds_what_is_moved():
    from memplace_agent.syscalls.moves import move_pages

    target = Target()
    start = target.hello["anon"]
    (scope() / "cpuset.mems").write_text("0")
    try:
        agent = Agent(stock=True)
        agent.until(world(unsupported="BestEffort"), lambda: agent.report.state == "Failed")
        found = agent.report
        assert (found.state, found.reason) == ("Failed", "NotAllowedByCpuset"), found
        assert set(pages_of(target.pid, start)) == {0}, line_of(target.pid, start)
        # And the kernel says no to who asks for it all the same.
        try:
            move_pages(target.pid, [start], [1], move_all=True)
        except OSError as err:
            assert err.errno == errno.EACCES, err
        else:
            raise AssertionError("a page was moved out of the cpuset")
    finally:
        (scope() / "cpuset.mems").write_text("0-1")
    target.end()


def test_inspect_moves_pages_once_if_the_manifest_asks_for_so_little():
    target = Target()
    start = target.hello["anon"]
    # No pod's: those are the agent's.
    Path("/sys/fs/cgroup/cgroup.procs").write_text(str(target.pid))
    manifest = Path("/run/placement.yaml")
    args = ("-f", str(manifest), "--tier", "cxl=1", "--apply")
    manifest.write_text(LARGE_ON_CXL)
    refused = inspected(target.pid, *args, status=5)
    assert refused is None and set(pages_of(target.pid, start)) == {0}
    manifest.write_text(LARGE_ON_CXL.replace("spec:", "spec:\n  onUnsupported: BestEffort"))
    done = inspected(target.pid, *args)
    assert done["problems"] == [] and done["moved"] >= 4 * MIB, done["problems"]
    assert set(pages_of(target.pid, start)) == {1}, line_of(target.pid, start)
    assert line_of(target.pid, start).split()[1] == "default"
    (rule,) = done["after"]["rules"]
    assert rule["policies"] == 0 and rule["misplaced"] == 0, rule
    assert target.do("check")["intact"]
    target.end()
