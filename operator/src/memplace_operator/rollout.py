# SPDX-License-Identifier: Apache-2.0
"""How far the roll-out of a placement is, and whether it goes on: from what is there. Pure.

What was decided before is in the placement's status, so an operator that has just come goes on
from there. Within one roll-out the gate only opens. Source of its form: `memplace.rollout`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from memplace.api.conditions import ConditionStatus
from memplace.api.v1alpha1 import Placement, Rollout, RolloutState, RolloutStatus
from memplace.kinds import HoldOn
from memplace.reasons import FAILURES, PATIENT, Reason
from memplace.rollout import change_of, position
from msgspec import UNSET

from memplace_operator.pressed import Fare, blindness, pressed_before, trouble
from memplace_operator.verdicts import Verdict

# Pods of a workload that begins come one after the other.
FIRST_PAUSE_S = 30


@dataclass(frozen=True, slots=True)
class Progress:
    """What is to be said of a roll-out.

    Attributes:
        status: For the placement's status.
        message: For people.
    """

    status: RolloutStatus
    message: str

    @property
    def condition(self) -> tuple[ConditionStatus, Reason]:
        """Status and reason of the condition Progressing."""
        if self.status.state is RolloutState.ROLLING:
            return "True", Reason.ROLLING_OUT
        held = self.status.state is RolloutState.HOLDING
        return "False", Reason.ROLLOUT_HELD if held else Reason.ROLLED_OUT

    @property
    def verdict(self) -> Verdict | None:
        """Why the placement is not ready although nothing else is in the way; None if it may be."""
        if self.status.released_nodes == self.status.nodes:
            return None
        return Verdict(Reason.AWAITING_ROLLOUT, self.message)


@dataclass(frozen=True, slots=True)
class _Node:
    position: str
    name: str
    fares: tuple[Fare, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(fare.verdict for fare in self.fares)


def progress_of(
    placement: Placement,
    fares: Iterable[Fare],
    of_the_spec: Iterable[Verdict] = (),
    *,
    quiet_s: float,
    now: datetime,
) -> Progress | None:
    """Return how far a roll-out is to be now; None without spec.rollout.

    Args:
        placement: It, with the status it has.
        fares: How its running pods fare.
        of_the_spec: What is wrong with the placement on all nodes alike.
        quiet_s: For how long, as of now, `is_quiet` holds of the status it has.
        now: An aware time.
    """
    asked = placement.spec.rollout
    if asked is UNSET:
        return None
    before = _before(placement, now)
    nodes = _nodes(placement.uid, fares)
    if before.state is RolloutState.DONE:
        return Progress(before, _done(placement, before))
    released = [node for node in nodes if node.position <= before.released_through]
    held = next(_troubles(of_the_spec, released, asked, before), "")
    pressed = before.pressed_before
    unsettled = [node for node in released if not _is_settled(node)]
    state, through = RolloutState.ROLLING, before.released_through
    if held:
        state = RolloutState.HOLDING
    elif not unsettled and _may_go_on(placement, before, len(nodes), quiet_s):
        state, through = _next(nodes, len(released), before, asked)
    if through != before.released_through:
        stepped = {n.name for n in nodes if before.released_through < n.position <= through}
        pressed = pressed_before(pressed, _fares(nodes), stepped)
    released = [node for node in nodes if node.position <= through]
    status = msgspec.structs.replace(
        before,
        state=state,
        released_through=through,
        nodes=len(nodes),
        released_nodes=len(released),
        settled_nodes=sum(map(_is_settled, released)),
        pressed_before=() if state is RolloutState.DONE else pressed,
    )
    if (state, through) != (before.state, before.released_through):
        status = msgspec.structs.replace(status, since=_seconds(now))
    return Progress(status, _said(placement, status, held, released))


def is_quiet(status: RolloutStatus | None) -> bool:
    """Return whether only time is to pass before more nodes are released."""
    return (
        status is not None
        and status.state is RolloutState.ROLLING
        and status.nodes > 0
        and status.settled_nodes == status.released_nodes
    )


def pause_s(asked: Rollout, status: RolloutStatus) -> int:
    """Return for how many seconds it has to be quiet before more nodes are released."""
    return asked.pause_s if status.released_through else min(FIRST_PAUSE_S, asked.pause_s)


def _before(placement: Placement, now: datetime) -> RolloutStatus:
    before, change = placement.status.rollout, change_of(placement.spec)
    if before is not None and before.change == change:
        return before
    # What only tells has nothing to roll out; but agents have to hear that it is meant.
    state = RolloutState.DONE if placement.spec.is_dry_run else RolloutState.ROLLING
    return RolloutStatus(
        generation=placement.generation, change=change, state=state, since=_seconds(now)
    )


def _nodes(uid: str, fares: Iterable[Fare]) -> list[_Node]:
    of_node: dict[str, list[Fare]] = {}
    for fare in fares:
        of_node.setdefault(fare.node, []).append(fare)
    found = [_Node(position(uid, name), name, tuple(of)) for name, of in of_node.items()]
    return sorted(found, key=lambda node: (node.position, node.name))


def _fares(nodes: Iterable[_Node]) -> list[Fare]:
    return [fare for node in nodes for fare in node.fares]


def _may_go_on(placement: Placement, before: RolloutStatus, nodes: int, quiet_s: float) -> bool:
    asked = placement.spec.rollout
    if asked is UNSET or placement.spec.paused:
        return False
    # Nodes that come later between those that are released act at once: so while they still
    # come, none is released, the first ones neither.
    return is_quiet(before) and nodes <= before.nodes and quiet_s >= pause_s(asked, before)


def _next(
    nodes: Sequence[_Node], released: int, before: RolloutStatus, asked: Rollout
) -> tuple[RolloutState, str]:
    rest = nodes[released:]
    if rest:
        last = rest[min(asked.step(len(nodes)), len(rest)) - 1]
        return RolloutState.ROLLING, last.position
    # Nodes to come are released, too: so not before there was one.
    state = RolloutState.DONE if nodes else RolloutState.ROLLING
    return state, before.released_through


def _is_settled(node: _Node) -> bool:
    return not any(verdict.reason in PATIENT for verdict in node.verdicts)


def _troubles(
    of_the_spec: Iterable[Verdict], released: Sequence[_Node], asked: Rollout, before: RolloutStatus
) -> Iterator[str]:
    if asked.ignore_hold_of == before.generation:
        return
    yield from (_trouble(v) for v in of_the_spec if _holds(v.reason, asked))
    for node in released:
        found = [verdict for verdict in node.verdicts if _holds(verdict.reason, asked)]
        if found:
            yield f"node {node.name}: {_trouble(min(found, key=lambda v: v.reason.rank))}"
    if HoldOn.MEMORY_PRESSURE in asked.holds_on:
        yield from filter(None, [trouble(_fares(released), before.pressed_before)])


def _holds(reason: Reason, asked: Rollout) -> bool:
    if reason is Reason.AGENT_NOT_REPORTING:
        return HoldOn.AGENT_NOT_REPORTING in asked.holds_on
    return reason in FAILURES and HoldOn.FAILED in asked.holds_on


def _trouble(verdict: Verdict) -> str:
    return f"{verdict.reason}: {verdict.message}" if verdict.message else verdict.reason


# --- what is said ---


def _said(placement: Placement, status: RolloutStatus, held: str, released: Sequence[_Node]) -> str:
    if status.state is RolloutState.DONE:
        return _done(placement, status)
    if held:
        return (
            f"held, {_count(status)}: {held} (it goes on by itself when that is gone; "
            "kubectl memplace resume goes on all the same)"
        )
    if not status.nodes:
        return "no node has a running pod of it yet, so none is released"
    if placement.spec.paused:
        return f"{_count(status)}; spec.paused: no further one is released"
    return "; ".join(
        filter(None, [_step(placement, status, released), _unseen(placement, released)])
    )


def _unseen(placement: Placement, released: Sequence[_Node]) -> str:
    asked = placement.spec.rollout
    if asked is UNSET or HoldOn.MEMORY_PRESSURE not in asked.holds_on:
        return ""
    return blindness(_fares(released))


def _step(placement: Placement, status: RolloutStatus, released: Sequence[_Node]) -> str:
    waiting = next((node for node in released if not _is_settled(node)), None)
    if waiting is not None:
        patient = (v.reason for v in waiting.verdicts if v.reason in PATIENT)
        reason = min(patient, key=lambda r: r.rank)
        done = f"{status.settled_nodes} of them done"
        return f"{_count(status)}, {done}; node {waiting.name}: {reason}"
    asked = placement.spec.rollout
    pause = 0 if asked is UNSET else pause_s(asked, status)
    if not status.released_through:
        return f"{_count(status)}; the first step is {pause} s after the last node has come"
    return f"{_count(status)}, all of them done; the next step is {pause} s later"


def _done(placement: Placement, status: RolloutStatus) -> str:
    if placement.spec.is_dry_run:
        return "mode DryRun: nothing is changed, so there is nothing to take step by step"
    return f"all nodes are released; there were {status.nodes}"


def _count(status: RolloutStatus) -> str:
    nodes = "node" if status.nodes == 1 else "nodes"
    return f"{status.released_nodes} of {status.nodes} {nodes} released"


def _seconds(now: datetime) -> datetime:
    # As the API server writes them: fractions would differ after a round trip.
    return now.astimezone(UTC).replace(microsecond=0)
