# SPDX-License-Identifier: Apache-2.0
"""A roll-out goes on step by step, holds, and says in the status how far it is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from memplace.api.v1alpha1 import ContainerState, PlacementStatus, Rollout, RolloutState
from memplace.kinds import Enforcement, HoldOn
from memplace.reasons import Reason
from memplace_operator.pressed import Fare
from memplace_operator.reconcile import reconcile, transitions, unreadable
from memplace_operator.rollout import progress_of
from memplace_operator.verdicts import Verdict
from msgspec import UNSET

from tests.unit.operator_pkg.rolling import (
    CONFLICT,
    FULL,
    MOVING,
    ORDER,
    PLACED,
    SILENT,
    UNSUPPORTED,
    WAITING,
    asking,
    site,
)
from tests.unit.operator_pkg.worlds import (
    NOW,
    condition,
    message,
    node,
    placement,
    pod,
    pod_report,
    report,
    rule,
    verdict,
    world,
)

S = ContainerState


# --- step by step ---


def test_without_a_rollout_there_is_none() -> None:
    assert progress_of(placement(), [Fare("a", PLACED)], quiet_s=1e9, now=NOW) is None


def test_step_by_step_with_a_pause_after_each() -> None:
    there = site(5, 2, pause_seconds=30)
    said = "0 of 5 nodes released; the first step is 30 s after the last node has come"
    assert there.judge().message == said
    there.pass_time(29)
    assert there.released == []
    there.pass_time(1)
    said = f"2 of 5 nodes released, 0 of them done; node {ORDER[0]}: AwaitingRollout"
    assert there.judge().message == said
    for count in (2, 4, 5):
        assert there.released == ORDER[:count]
        there.pass_time(1e6)
        assert there.released == ORDER[:count], "what is not done is waited for"
        there.work()
        there.pass_time(1e6)
        assert there.released == ORDER[:count], "the pause begins now"
        there.pass_time(29.9)
        assert there.released == ORDER[:count]
        there.pass_time(0.2)
    assert there.judge().condition == ("False", Reason.ROLLED_OUT)
    assert there.released == ORDER, "and nodes to come"
    assert there.judge().message == "all nodes are released; there were 5"


def test_a_pause_begins_anew_when_something_moves_again() -> None:
    there = site(pause_seconds=30)
    there.begin()
    there.work()
    there.pass_time(0)
    there.pass_time(29)
    there.fares[ORDER[0]] = MOVING
    there.pass_time(2)
    there.work()
    there.pass_time(0)
    there.pass_time(29)
    assert there.released == ORDER[:1]
    there.pass_time(1)
    assert there.released == ORDER[:2]


def test_where_nothing_is_left_to_do_each_step_has_its_pause_all_the_same() -> None:
    """As after a status was lost, or where a placement that is in force gets a roll-out."""
    there = site(pause_seconds=30)
    there.fares = dict.fromkeys(there.fares, PLACED)
    there.begin()
    for count in (1, 2, 3):
        assert there.released == ORDER[:count]
        there.pass_time(29)
        assert there.released == ORDER[:count]
        there.pass_time(1)


def test_nobody_is_there_and_nothing_is_released() -> None:
    there = site(0, "100%")
    there.pass_time(1e6)
    there.pass_time(1e6)
    assert there.placement.status.rollout
    assert there.placement.status.rollout.state is RolloutState.ROLLING
    there.fares = {ORDER[0]: WAITING, ORDER[1]: WAITING}
    there.begin()
    assert there.released == ORDER[:2]


def test_while_nodes_still_come_none_is_released() -> None:
    """Of a Deployment that starts: all nodes before the last released one act at once."""
    there = site(0, pause_seconds=30)
    for name in reversed(ORDER):
        there.fares[name] = WAITING
        there.pass_time(29)
        assert there.released == []
    there.pass_time(29)
    there.fares["one more"] = WAITING
    there.pass_time(1)
    assert there.judge().status.released_nodes == 0
    there.pass_time(29)
    assert there.judge().status.released_nodes == 0
    there.pass_time(1)
    assert there.judge().status.released_nodes == 1


def test_the_first_step_does_not_wait_for_a_long_pause() -> None:
    there = site(pause_seconds=3600)
    there.judge()
    there.pass_time(29)
    assert there.released == []
    there.pass_time(1)
    assert there.released == ORDER[:1]
    there.work()
    there.pass_time(0)
    there.pass_time(3599)
    assert there.released == ORDER[:1]
    there.pass_time(1)
    assert there.released == ORDER[:2]


def test_nodes_that_come_as_others_go_keep_it_from_nothing() -> None:
    there = site(4, pause_seconds=30)
    there.judge()
    for number in range(6):
        there.now += 10
        there.fares.popitem()
        there.judge()
        there.fares[f"other-{number}"] = WAITING
        there.judge()
    assert there.judge().status.released_nodes >= 1


def test_pods_that_go_from_what_is_released_are_no_sign_that_all_is_well() -> None:
    there = site(6, pause_seconds=30)
    there.begin()
    del there.fares[ORDER[0]]
    there.pass_time(0)
    there.pass_time(29)
    assert there.released == ORDER[:1]
    there.pass_time(1)
    assert there.released == ORDER[:2]


def test_a_node_that_comes_before_the_last_one_is_released_and_waited_for() -> None:
    there = site(0)
    there.fares = dict.fromkeys(ORDER[1:4], WAITING)
    there.begin()
    there.work()
    there.fares[ORDER[0]] = MOVING
    there.pass_time(1e6)
    there.pass_time(1e6)
    assert there.released == ORDER[:2]


def test_where_it_can_not_be_placed_is_done_as_well() -> None:
    there = site(pause_seconds=0)
    there.begin()
    there.fares[ORDER[0]] = UNSUPPORTED
    there.pass_time(0)
    there.pass_time(0)
    assert there.released == ORDER[:2]


def test_while_it_is_paused_nothing_more_is_released() -> None:
    there = site(pause_seconds=0)
    there.begin()
    paused = msgspec.structs.replace(there.placement.spec, paused=True)
    there.placement = msgspec.structs.replace(there.placement, spec=paused)
    there.work()
    there.pass_time(1)
    there.pass_time(1)
    assert there.released == ORDER[:1]
    assert "spec.paused: no further one is released" in there.judge().message


# --- holding ---


@pytest.mark.parametrize(
    ("fare", "hold_on", "holds"),
    [
        (FULL, UNSET, True),
        (CONFLICT, UNSET, True),
        (SILENT, UNSET, True),
        (FULL, (HoldOn.FAILED,), True),
        (SILENT, (HoldOn.FAILED,), False),
        (FULL, (HoldOn.AGENT_NOT_REPORTING,), False),
        (SILENT, (HoldOn.AGENT_NOT_REPORTING,), True),
        (FULL, (), False),
        (UNSUPPORTED, UNSET, False),
    ],
)
def test_what_holds_and_what_does_not(fare: Verdict, hold_on: Any, *, holds: bool) -> None:
    there = site(pause_seconds=0, hold_on=hold_on)
    there.begin()
    there.fares[ORDER[0]] = fare
    there.pass_time(0)
    there.pass_time(100)
    assert there.released == ORDER[: 1 if holds else 2]
    assert (there.judge().condition[1] is Reason.ROLLOUT_HELD) is holds


def test_it_says_why_and_goes_on_when_that_is_gone() -> None:
    there = site(pause_seconds=30)
    there.begin()
    there.fares[ORDER[0]] = FULL
    held = there.judge()
    assert held.condition == ("False", Reason.ROLLOUT_HELD)
    assert held.message.startswith(
        f"held, 1 of 4 nodes released: node {ORDER[0]}: TierFull: no room (it goes on by itself"
    )
    there.pass_time(1e6)
    there.work()
    there.pass_time(0)
    assert there.judge().condition == ("True", Reason.ROLLING_OUT)
    there.pass_time(29)
    assert there.released == ORDER[:1]
    there.pass_time(1)
    assert there.released == ORDER[:2]


def test_trouble_where_it_has_not_come_yet_does_not_hold() -> None:
    there = site(pause_seconds=0)
    there.begin()
    there.work()
    there.fares[ORDER[3]] = SILENT
    there.pass_time(0)
    there.pass_time(0)
    assert there.released == ORDER[:2]


def test_what_is_wrong_everywhere_holds_before_the_first() -> None:
    there = site()
    wrong = Verdict(Reason.TIER_UNKNOWN, "no such tier")
    assert there.judge(wrong).condition[1] is Reason.ROLLOUT_HELD
    assert there.released == []
    there.pass_time(1e6)
    assert there.released == []
    there.pass_time(60)
    assert there.released == ORDER[:1]


def test_a_hold_that_is_passed_over_is_that_of_one_change() -> None:
    there = site(pause_seconds=0, ignore_hold_of=3)
    there.begin()
    there.fares[ORDER[0]] = FULL
    there.pass_time(0)
    there.pass_time(0)
    assert there.released == ORDER[:2]
    changed = placement(rollout=there.placement.spec.rollout, rules=(rule("new"),), generation=4)
    there.placement = msgspec.structs.replace(changed, status=there.placement.status)
    there.begin()
    there.judge()
    assert there.released == ORDER[:1]
    assert there.judge().condition[1] is Reason.ROLLOUT_HELD


# --- changes, lost statuses, operators that come and go ---


def test_another_change_starts_again_and_the_same_one_goes_on() -> None:
    there = site(pause_seconds=0)
    for _ in range(20):
        there.judge()
        there.work()
    assert there.placement.status.rollout
    assert there.placement.status.rollout.state is RolloutState.DONE
    same = msgspec.structs.replace(
        there.placement, generation=4, spec=placement(rollout=Rollout(2), priority=9).spec
    )
    there.placement = same
    there.judge()
    assert there.released == ORDER
    other = placement(rollout=Rollout(2), rules=(rule("new"),), generation=5)
    there.placement = msgspec.structs.replace(other, status=same.status)
    there.begin()
    assert there.released == ORDER[:2]
    assert there.judge().status.generation == 5


def test_a_dry_run_is_told_everywhere_at_once() -> None:
    there = site()
    dry = msgspec.structs.replace(there.placement.spec, mode=Enforcement.DRY_RUN)
    enforced, there.placement = there.placement, msgspec.structs.replace(there.placement, spec=dry)
    assert there.judge().condition == ("False", Reason.ROLLED_OUT)
    assert there.released == ORDER
    there.placement = msgspec.structs.replace(enforced, status=there.placement.status)
    there.begin()
    assert there.released == ORDER[:1]


# --- in the status ---


def fared(*states: ContainerState, status: PlacementStatus, **kwargs: Any) -> PlacementStatus:
    mine = msgspec.structs.replace(asking(1, pause_seconds=0), status=status)
    names = ORDER[: len(states)]
    pods = [pod(f"p-{name}", node=name) for name in names]
    nodes = [
        node(report(pod_report(f"p-{name}", state=state, **kwargs)), name=name)
        for name, state in zip(names, states, strict=True)
    ]
    return reconcile(mine, world([mine], pods, nodes), NOW)


def test_it_is_not_ready_before_it_has_come_to_all() -> None:
    none = fared(S.AWAITING_ROLLOUT, S.AWAITING_ROLLOUT, status=PlacementStatus())
    assert condition(none) == ("False", "AwaitingRollout")
    assert message(none).startswith("0 of 2 nodes released")
    first = fared(S.AWAITING_ROLLOUT, S.AWAITING_ROLLOUT, status=none)
    assert condition(first) == ("False", "AwaitingRollout")
    assert message(first).startswith("1 of 2 nodes released")
    assert condition(first, "Progressing") == ("True", "RollingOut")
    assert condition(first, "Degraded") == ("False", "AsExpected")
    second = fared(S.PLACED, S.AWAITING_ROLLOUT, status=first)
    assert (second.placed_pods, second.rollout and second.rollout.settled_nodes) == (1, 1)
    third = fared(S.PLACED, S.AWAITING_ROLLOUT, status=second)
    assert third.rollout and third.rollout.released_nodes == 2
    fourth = fared(S.PLACED, S.PLACED, status=third)
    assert condition(fourth) == ("True", "Placed")
    last = fared(S.PLACED, S.PLACED, status=fourth)
    assert condition(last, "Progressing") == ("False", "RolledOut")
    assert fared(S.PLACED, S.PLACED, status=last) == last
    events = [transitions(a, b) for a, b in ((PlacementStatus(), none), (none, second))]
    assert [[e.reason for e in found] for found in events] == [
        ["RollingOut", "AwaitingRollout"],
        [],
    ]
    assert [(e.is_warning, e.reason) for e in transitions(fourth, last)] == [(False, "RolledOut")]


def test_a_hold_is_told_beside_its_reason() -> None:
    none = fared(S.AWAITING_ROLLOUT, S.AWAITING_ROLLOUT, status=PlacementStatus())
    first = fared(S.AWAITING_ROLLOUT, S.AWAITING_ROLLOUT, status=none)
    held = fared(S.FAILED, S.AWAITING_ROLLOUT, status=first, reason="TierFull", message="no room")
    assert condition(held) == ("False", "TierFull")
    assert condition(held, "Progressing") == ("False", "RolloutHeld")
    assert f"node {ORDER[0]}: TierFull: container redis of pod p-{ORDER[0]}" in message(
        held, "Progressing"
    )
    assert (True, "RolloutHeld") in [(e.is_warning, e.reason) for e in transitions(first, held)]


def test_one_without_a_rollout_has_neither_condition_nor_status() -> None:
    was = fared(S.AWAITING_ROLLOUT, status=PlacementStatus())
    free = verdict(msgspec.structs.replace(placement(), status=was), [pod()], [node()])
    assert free.rollout is None
    assert [c.type for c in free.conditions] == ["Ready", "Degraded", "Unsupported"]


def test_an_operator_that_can_not_read_it_releases_nothing_and_takes_nothing_back() -> None:
    was = fared(S.AWAITING_ROLLOUT, status=PlacementStatus())
    assert unreadable(was, "?", generation=4, now=NOW).rollout == was.rollout
