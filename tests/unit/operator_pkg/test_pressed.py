# SPDX-License-Identifier: Apache-2.0
"""A roll-out holds on memory pressure that came with it, and says where it can see none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from memplace.api.v1alpha1 import ContainerReport, ContainerState, PlacementStatus
from memplace.kinds import HoldOn, Pressure
from memplace.reasons import Reason
from memplace_operator.pressed import MOST, Fare, pressed_before
from memplace_operator.reconcile import reconcile
from memplace_operator.verdicts import Measured, Verdict
from msgspec import UNSET

from tests.unit.operator_pkg.rolling import ORDER, Site, asking, site
from tests.unit.operator_pkg.worlds import (
    NOW,
    condition,
    message,
    node,
    pod,
    pod_report,
    report,
    world,
)

S = ContainerState
LOW, RAISED, HIGH, UNKNOWN = Pressure.LOW, Pressure.RAISED, Pressure.HIGH, Pressure.UNKNOWN
HELD = Reason.ROLLOUT_HELD


def under(pressure: Pressure, state: ContainerState = S.PLACED) -> Verdict:
    said = ContainerReport(name="redis", state=state, memory_pressure=pressure)
    return Verdict(Reason(state.value), measured=(Measured(said, {}),))


def feel(there: Site, **pressures: Pressure) -> None:
    """Have pods feel pressure, those of all other nodes little."""
    there.work()
    for name, verdict in there.fares.items():
        state = S(verdict.reason.value)
        there.fares[name] = under(pressures.get(name, LOW), state)


def step(there: Site, **pressures: Pressure) -> None:
    """Let a pause pass with pods that feel pressure."""
    for _ in range(3):
        feel(there, **pressures)
        there.pass_time(30)


def test_pressure_that_comes_with_a_step_holds_and_names_the_pod() -> None:
    there = site(pause_seconds=30)
    there.begin()
    first = ORDER[0]
    step(there, **{first: HIGH})
    assert there.released == [first]
    held = there.judge()
    assert held.condition == ("False", HELD)
    assert held.message.startswith(
        f"held, 1 of 4 nodes released: node {first}: MemoryPressure: container redis of pod "
        f"p-{first} is under high memory pressure, and was not when its node was released ("
    )
    step(there)
    assert there.released == ORDER[:2]


@pytest.mark.parametrize("pressure", [LOW, RAISED, UNKNOWN])
def test_less_of_it_does_not(pressure: Pressure) -> None:
    there = site(pause_seconds=30)
    there.begin()
    step(there, **{ORDER[0]: pressure})
    assert there.released == ORDER[:2]


def test_what_was_there_before_its_node_was_released_does_not_hold() -> None:
    there = site(12, pause_seconds=30)
    feel(there, **{ORDER[0]: HIGH, ORDER[1]: HIGH})
    there.begin()
    assert there.placement.status.rollout
    assert there.placement.status.rollout.pressed_before == (f"uid-{ORDER[0]}",)
    step(there, **{ORDER[0]: HIGH, ORDER[1]: HIGH})
    assert there.released == ORDER[:2]
    # It may come and go. What comes to another is new, and to one that is released later old.
    step(there, **{ORDER[1]: HIGH})
    step(there, **{ORDER[0]: HIGH})
    assert there.judge().condition[1] is not HELD
    step(there, **{ORDER[0]: HIGH, ORDER[2]: HIGH})
    assert there.judge().condition[1] is HELD
    assert f"pod p-{ORDER[2]} " in there.judge().message


def test_of_several_pods_one_speaks_and_the_others_are_counted() -> None:
    there = site(3, 2, pause_seconds=30)
    there.begin()
    step(there, **dict.fromkeys(ORDER[:2], HIGH))
    assert f"pod p-{min(ORDER[:2])} " in there.judge().message
    assert "released (and 1 more pod) (it goes on by itself" in there.judge().message


def test_a_failure_comes_first() -> None:
    there = site(3, 2, pause_seconds=30)
    there.begin()
    step(there, **{ORDER[0]: HIGH})
    there.fares[ORDER[1]] = Verdict(Reason.TIER_FULL, "no room")
    assert f"node {ORDER[1]}: TierFull" in there.judge().message


@pytest.mark.parametrize(
    ("hold_on", "holds"),
    [
        (UNSET, True),
        ((HoldOn.MEMORY_PRESSURE,), True),
        ((HoldOn.FAILED, HoldOn.AGENT_NOT_REPORTING), False),
        ((), False),
    ],
)
def test_it_holds_if_that_is_asked_for_and_by_default(hold_on: Any, *, holds: bool) -> None:
    there = site(pause_seconds=30, hold_on=hold_on)
    there.begin()
    step(there, **{ORDER[0]: HIGH})
    assert (there.judge().condition[1] is HELD) is holds


def test_it_is_passed_over_when_somebody_says_so() -> None:
    there = site(pause_seconds=30, ignore_hold_of=3)
    there.begin()
    step(there, **{ORDER[0]: HIGH})
    assert there.released == ORDER[:2]


def test_where_it_can_not_be_seen_it_says_so() -> None:
    there = site(pause_seconds=30)
    there.begin()
    feel(there, **{ORDER[0]: UNKNOWN, ORDER[3]: UNKNOWN})
    assert there.judge().message == (
        "1 of 4 nodes released, all of them done; the next step is 30 s later; memory pressure is "
        f"not seen at node {ORDER[0]} (no PSI in the kernel, or an agent of an earlier version), "
        "so it holds nothing there"
    )
    step(there, **dict.fromkeys(ORDER, UNKNOWN))
    feel(there, **dict.fromkeys(ORDER, UNKNOWN))
    first, others = min(there.released), len(there.released) - 1
    assert others > 0
    assert f"not seen at node {first} and {others} more (no PSI" in there.judge().message
    feel(there)
    assert "not seen" not in there.judge().message


@pytest.mark.parametrize("state", [S.PENDING, S.AWAITING_ROLLOUT, S.PAUSED, S.FAILED, S.OBSERVED])
def test_of_what_nothing_is_done_to_nothing_needs_to_be_seen(state: ContainerState) -> None:
    there = site(1, pause_seconds=30, hold_on=(HoldOn.MEMORY_PRESSURE,))
    there.begin()
    there.fares[ORDER[0]] = under(UNKNOWN, state)
    assert "not seen" not in there.judge().message


def test_one_that_does_not_hold_on_it_does_not_say_so() -> None:
    there = site(pause_seconds=30, hold_on=(HoldOn.FAILED,))
    there.begin()
    feel(there, **{ORDER[0]: UNKNOWN})
    assert "not seen" not in there.judge().message


def test_what_is_remembered_is_bounded_and_goes_with_its_pods_and_with_the_roll_out() -> None:
    fares = [Fare("a", under(HIGH), f"uid-{n:03}", f"p-{n}") for n in range(100)]
    assert len(pressed_before((), fares, {"a"})) == MOST
    assert pressed_before((), fares, {"b"}) == ()
    assert pressed_before(("uid-007", "gone"), fares, {"b"}) == ("uid-007",)
    there = site(2, pause_seconds=30)
    feel(there, **dict.fromkeys(ORDER, HIGH))
    there.begin()
    for _ in range(3):
        step(there, **dict.fromkeys(ORDER, HIGH))
    done = there.judge()
    assert done.condition[1] is Reason.ROLLED_OUT
    assert done.status.pressed_before == ()


def test_another_change_looks_again_at_what_is_there() -> None:
    there = site(2, pause_seconds=30)
    feel(there, **dict.fromkeys(ORDER, HIGH))
    there.begin()
    before = there.placement
    spec = msgspec.structs.replace(before.spec, containers=("redis",))
    there.placement = msgspec.structs.replace(before, spec=spec, generation=4)
    feel(there)
    there.begin()
    assert there.placement.status.rollout
    assert there.placement.status.rollout.pressed_before == ()


def test_it_comes_from_the_reports_of_agents() -> None:
    def fared(status: PlacementStatus, *states: ContainerState, high: str = "") -> PlacementStatus:
        mine = msgspec.structs.replace(asking(1, pause_seconds=0), status=status)
        names = ORDER[: len(states)]
        nodes = [
            node(
                report(
                    pod_report(f"p-{name}", state=state, pressure=HIGH if name == high else LOW)
                ),
                name=name,
            )
            for name, state in zip(names, states, strict=True)
        ]
        pods = [pod(f"p-{name}", node=name) for name in names]
        return reconcile(mine, world([mine], pods, nodes), NOW)

    none = fared(PlacementStatus(), S.AWAITING_ROLLOUT, S.AWAITING_ROLLOUT)
    for before, reason in (("", "RolloutHeld"), (ORDER[0], "RollingOut")):
        first = fared(none, S.AWAITING_ROLLOUT, S.AWAITING_ROLLOUT, high=before)
        assert first.rollout
        assert first.rollout.pressed_before == ((f"uid-p-{before}",) if before else ())
        then = fared(first, S.PLACED, S.AWAITING_ROLLOUT, high=ORDER[0])
        assert condition(then, "Progressing")[1] == reason
        assert condition(then, "Degraded")[0] == "False"
    held = fared(
        fared(none, S.PLACED, S.AWAITING_ROLLOUT), S.PLACED, S.AWAITING_ROLLOUT, high=ORDER[0]
    )
    assert f"MemoryPressure: container redis of pod p-{ORDER[0]} " in message(held, "Progressing")


def test_what_came_with_an_earlier_step_is_not_from_before_a_later_one() -> None:
    there = site(12, pause_seconds=30, hold_on=())
    there.begin()
    step(there, **{ORDER[0]: HIGH})
    assert len(there.released) > 1
    assert there.placement.status.rollout
    assert there.placement.status.rollout.pressed_before == ()
