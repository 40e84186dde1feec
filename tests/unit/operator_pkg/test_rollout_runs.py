# SPDX-License-Identifier: Apache-2.0
"""A roll-out never goes further than it may, and never back, whatever happens meanwhile."""

from __future__ import annotations

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from memplace.api.v1alpha1 import PlacementStatus
from memplace.reasons import Reason
from memplace.rollout import waits
from memplace_operator.pauses import Pauses
from memplace_operator.rollout import is_quiet
from msgspec import UNSET

from tests.unit.operator_pkg.rolling import FULL, MOVING, NAMES, ORDER, PLACED, WAITING, Site, site

STEPS = st.sampled_from(
    ["work", "time", "second", "fail", "move", "come", "come late", "go", "restart", "lose"]
)


@settings(max_examples=400, deadline=None)
@example(1, 2, [("work", 0), ("go", 0), ("come late", 0), ("lose", 0), ("work", 0)])
@given(
    st.sampled_from([1, 2, 3, "25%", "100%"]),
    st.integers(0, len(NAMES)),
    st.lists(st.tuples(STEPS, st.integers(0, len(NAMES) - 1)), max_size=60),
)
def test_whatever_happens_no_step_is_too_large_and_none_goes_back(
    max_nodes: int | str, count: int, steps: list[tuple[str, int]]
) -> None:
    there = site(count, max_nodes, pause_seconds=30)
    quiet_since: float | None = None
    most = 0
    for what, which in steps:
        happen(there, what, ORDER[which])
        before = set(there.released)
        mine = [name for name in there.fares if name in before]
        calm = bool(there.fares) and all(there.fares[n] == PLACED for n in mine)
        there.judge()
        after = set(there.released)
        assert before <= after, "a node that was released is not"
        new = [name for name in after - before if name in there.fares]
        asked = there.placement.spec.rollout
        assert asked is not UNSET
        done = there.placement.status.rollout and there.placement.status.rollout.state.is_done
        assert len(new) <= asked.step(len(there.fares)) or done
        if new:
            assert calm, "something released was not done, or in trouble"
            assert quiet_since is not None and there.now - quiet_since >= 30
            assert len(there.fares) <= most, "nodes still come"
        if after - before or what in ("restart", "lose") or not calm or len(there.fares) > most:
            quiet_since, most = None, len(there.fares)
        if quiet_since is None and is_quiet(there.placement.status.rollout):
            quiet_since = there.now


def happen(there: Site, what: str, name: str) -> None:
    match what:
        case "work":
            there.work()
        case "time":
            there.now += 31
        case "second":
            there.now += 1
        case "fail":
            there.fares |= {name: FULL} if name in there.fares else {}
        case "move":
            there.fares |= {name: MOVING} if name in there.fares else {}
        case "come" | "come late":  # as the pause is over
            there.now += 31 * (what == "come late")
            there.fares[name] = WAITING if waits(there.placement, name) else MOVING
        case "go":
            there.fares.pop(name, None)
        case "restart":
            there.pauses = Pauses()
        case "lose":
            there.write(None)


@given(st.lists(st.tuples(STEPS, st.integers(0, len(NAMES) - 1)), max_size=40))
def test_where_agents_work_it_comes_to_an_end(steps: list[tuple[str, int]]) -> None:
    there = site(5, 2, pause_seconds=30)
    for what, which in steps:
        happen(there, what, ORDER[which])
        there.judge()
    there.fares = there.fares or {ORDER[0]: WAITING}
    for _ in range(len(NAMES) + 3):
        there.work()
        there.pass_time(1)
        there.pass_time(31)
    assert there.judge().condition[1] is Reason.ROLLED_OUT
    assert there.released == ORDER


def test_a_write_nobody_heard_of_counts_as_done() -> None:
    """Another choice after it, from a world that has changed, would release others as well."""
    there = site(4)
    stale = there.placement
    there.begin()
    tried = there.judge().status
    there.pauses.writing("uid-mp", tried)
    there.fares = dict.fromkeys(ORDER[1:], WAITING)
    known = there.pauses.known(stale)
    assert known.status.rollout == tried
    older = msgspec.structs.replace(tried, released_through="")
    behind = msgspec.structs.replace(stale, status=PlacementStatus(rollout=older))
    assert there.pauses.known(behind).status.rollout == tried
    newer = msgspec.structs.replace(tried, released_through="f" * 16)
    further = msgspec.structs.replace(stale, status=PlacementStatus(rollout=newer))
    assert there.pauses.known(further) is further, "another operator went on meanwhile"
    there.pauses.wrote("uid-mp")
    assert there.pauses.known(stale) is stale, "it is lost, and starts again"


def test_a_step_that_was_refused_has_its_pause_again() -> None:
    there = site(pause_seconds=30)
    there.begin()
    there.work()
    there.judge()
    there.now += 30
    was = there.placement
    there.judge()
    assert there.released == ORDER[:2]
    there.fares[ORDER[1]] = PLACED
    there.judge()
    there.placement = was
    there.now += 30
    there.judge()
    assert there.released == ORDER[:1]


def test_a_pause_is_due_once() -> None:
    there = site(pause_seconds=30)
    there.begin()
    assert there.pauses.take_due(there.now) == []
    assert there.pauses.wait_s(there.now) == float("inf")
    there.work()
    there.judge()
    assert there.pauses.wait_s(there.now) == 30
    assert there.pauses.take_due(there.now + 29) == []
    assert there.pauses.take_due(there.now + 30) == ["uid-mp"]
    assert there.pauses.take_due(there.now + 31) == []
    there.pauses.forget("uid-mp")
    assert there.judge().status.settled_nodes == 1
    assert there.pauses.take_due(there.now + 30) == ["uid-mp"]
