# SPDX-License-Identifier: Apache-2.0
"""The clock on the wall jumps by a year, in either direction: nobody acts on what it says."""

from __future__ import annotations

import ast
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from memplace.api.v1alpha1 import NodeMemoryStatus
from memplace_agent.cluster import lease, publish
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.lease import Heartbeat
from memplace_agent.cluster.publish import Publisher
from memplace_agent.engine import worker

from tests.unit.agent_pkg.answers import Request, reply, serving
from tests.unit.agent_pkg.test_watch import eventually
from tests.unit.agent_pkg.test_worker import Agent
from tests.unit.agent_pkg.test_world import RUNNING, placement, pod

YEAR_S = 365 * 86_400.0
REAL = time.time


class Wall:
    """What the wall says: the time, so many seconds off."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        wall, self.off_s = self, 0.0

        class Jumped(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.fromtimestamp(REAL() + wall.off_s, tz)

        patch.setattr(time, "time", lambda: REAL() + self.off_s)
        for module in (lease, publish, worker):
            patch.setattr(module, "datetime", Jumped)

    def shows(self, text: str) -> bool:
        """Tell whether a time of the API is of this minute by that clock."""
        there = datetime.fromisoformat(text) - timedelta(seconds=self.off_s)
        return abs((there - datetime.fromtimestamp(REAL(), UTC)).total_seconds()) < 60


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(monkeypatch)


@pytest.fixture(params=[YEAR_S, -YEAR_S], ids=["ahead", "back"])
def off_s(request: pytest.FixtureRequest) -> float:
    found: float = request.param
    return found


@pytest.fixture
def at_work(wall, node, kit):
    uid = pod(RUNNING)["metadata"]["uid"]
    node.start()
    node.machine.start(100, "a" * 64, kit.heap(), kit.anon(), pod=uid)
    agent = Agent(node).list((Kind.PLACEMENT, placement()), (Kind.POD, pod(RUNNING)))
    return agent.run(60)


def looks_of(agent: Any, seconds: float) -> tuple[int, int, int]:
    """Return how often it read processes, set something and reported in that time."""
    machine, sink = agent.node.machine, agent.sink
    reads: list[Path] = []
    machine.on_read = reads.append
    before = len(machine.calls) + len(machine.futures), len(sink.published)
    agent.run(seconds)
    return (
        len(reads),
        len(machine.calls) + len(machine.futures) - before[0],
        len(sink.published) - before[1],
    )


def test_who_is_at_work_does_not_notice(at_work, wall, node, kit, off_s) -> None:
    usual = looks_of(at_work, 130)
    claims, since = node.claims, [c.last_transition_time for c in at_work.status.conditions]
    wall.off_s = off_s
    assert looks_of(at_work, 130) == usual
    assert usual[0] > 0 and usual[1] == 0
    assert node.claims == claims
    assert node.machine.policies(100)["[heap]"] == kit.CXL
    assert [c.last_transition_time for c in at_work.status.conditions] == since
    assert at_work.node.metrics.last_success._value.get() == pytest.approx(REAL() + off_s, abs=60)


def test_what_begins_before_a_jump_ends_after_it(at_work, wall, node, kit, off_s) -> None:
    """A claim says when it began, by whatever clock there was."""
    wall.off_s = off_s
    node.machine.start(101, "a" * 64, kit.heap(), pod=pod(RUNNING)["metadata"]["uid"])
    at_work.run(20)
    assert node.machine.policies(101)["[heap]"] == kit.CXL
    wall.off_s = 0.0
    at_work.cache.event(Kind.PLACEMENT, "DELETED", placement())
    at_work.run(20)
    assert not node.claims
    assert {*node.machine.policies(100).values(), *node.machine.policies(101).values()} == {None}


def test_a_label_that_is_off_for_a_moment_is_so_by_that_clock_too(at_work, wall, node, off_s):
    """What nobody selects is given back after ten seconds, not after a jump."""
    calls = len(node.machine.calls)
    at_work.cache.event(Kind.POD, "MODIFIED", pod(RUNNING, labels={}))
    at_work.run(3)
    wall.off_s = off_s
    at_work.run(3)
    at_work.cache.event(Kind.POD, "MODIFIED", pod(RUNNING))
    at_work.run(20)
    assert len(node.machine.calls) == calls and node.claims


def test_the_lease_goes_on_with_the_new_time(wall, off_s, monkeypatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lease, "BOTH_WAYS_S", 0.0)
    with serving(lambda _, file: reply(file, {})) as api:
        beat = Heartbeat(api.server, "n1", is_alive=lambda: True, owner=lambda: "u")
        assert beat.beats_in_report()
        for wall.off_s in (0.0, off_s):
            pauses = [beat._round() for _ in range(3)]
            assert all(0.04 <= pause <= 0.05 for pause in pauses)
            assert wall.shows(api.seen[-1].body["spec"]["renewTime"])
            assert not beat.beats_in_report()
    assert len(api.seen) == 6


def test_a_report_is_written_again_when_it_is_due_and_not_before(wall, off_s, monkeypatch) -> None:
    monkeypatch.setattr(publish, "HEARTBEAT_S", 1.0)

    def answer(_: Request, file: Any) -> None:
        reply(file, {})

    with serving(answer) as api:
        publisher = Publisher(api.server, "n1", lambda: True)
        publisher.publish(NodeMemoryStatus(agent_version="1"))
        publisher._write_if_due()
        wall.off_s = off_s
        publisher._write_if_due()
        assert len(api.seen) == 1

        def beats() -> bool:
            publisher._write_if_due()
            return len(api.seen) == 2

        eventually(beats)
    first, last = (request.body["status"] for request in api.seen)
    assert wall.shows(last["heartbeatTime"])
    assert first["conditions"] == last["conditions"]


# --- who looks at it at all ---

ROOT = Path(__file__).parents[3]
PACKAGES = (ROOT / "core/src/memplace", ROOT / "node-agent/src/memplace_agent")
_CLOCKS = frozenset({"now", "utcnow", "today", "time", "time_ns", "gmtime", "localtime"})
# What is told to people or to the API server, and decides nothing.
_TOLD = Counter(
    {
        "cluster/lease.py": 1,  # renewTime
        "cluster/publish.py": 1,  # heartbeatTime, lastTransitionTime
        "engine/worker.py": 2,  # lastTransitionTime, a metric
        # Since when there is a claim.
        "cli/applying.py": 1,
        "engine/build.py": 1,
        "engine/cradle.py": 1,
        "engine/explaining.py": 1,
        "engine/objects.py": 1,
        "engine/shim_claims.py": 1,
        "engine/shims.py": 2,
        "engine/upgrade.py": 1,
    }
)


def test_nobody_else_looks_at_that_clock() -> None:
    found: Counter[str] = Counter()
    for root in PACKAGES:
        for file in root.rglob("*.py"):
            found[str(file.relative_to(root))] += sum(
                _is_wall_clock(each) for each in ast.walk(ast.parse(file.read_text()))
            )
    assert +found == _TOLD


def _is_wall_clock(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute):
        return False
    if node.attr == "set_to_current_time":
        return True
    of = node.value.id if isinstance(node.value, ast.Name) else ""
    return of in ("time", "datetime", "date") and node.attr in _CLOCKS


def test_nobody_asks_how_old_a_claim_is() -> None:
    readers = {
        file.name
        for root in PACKAGES
        for file in root.rglob("*.py")
        for each in ast.walk(ast.parse(file.read_text()))
        if isinstance(each, ast.Attribute) and each.attr == "since"
    }
    assert readers == {"pressure.py"}  # of its own, in seconds of the clock that it is given
