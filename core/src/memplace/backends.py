# SPDX-License-Identifier: Apache-2.0
"""What a node can do, what a placement asks for where that is not all, and what follows. Pure.

A backend is a way to act on processes, with what it can; the agent has the best one of its
node. A placement says in onUnsupported what it wants of nodes that can set no policies.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from enum import Enum, auto

from memplace.api.v1alpha1 import PlacementSpec
from memplace.kinds import Capability, OnUnsupported
from memplace.policy import Plan


class Act(Enum):
    """What the agent does for a placement on its node.

    PLACE: set policies, and move pages once: memory stays where the rules want it.
    MOVE: move pages that are there, again and again; new ones land anywhere.
    OBSERVE: tell where pages are, and change nothing.
    PAUSE: the same of what has been placed, and is to stay as it is.
    WAIT: the same until the placement's roll-out has come to the node.
    TRY: the same of what would be placed or moved if somebody meant it: a dry run.
    LEAVE: nothing.
    """

    PLACE = auto()
    MOVE = auto()
    OBSERVE = auto()
    PAUSE = auto()
    WAIT = auto()
    TRY = auto()
    LEAVE = auto()

    @property
    def changes(self) -> bool:
        """Whether pages of the container come to another place by it."""
        return self in (Act.PLACE, Act.MOVE)


def act_of(asked: OnUnsupported, can: Collection[Capability]) -> Act:
    """Return what to do for a placement.

    Args:
        asked: Its onUnsupported.
        can: What the node's backend can.

    Example:
        >>> act_of(OnUnsupported.BEST_EFFORT, {Capability.MEASURES})
        <Act.OBSERVE: 3>
    """
    if Capability.POLICIES in can:
        return Act.PLACE
    if asked is OnUnsupported.FAIL or Capability.MEASURES not in can:
        return Act.LEAVE
    if asked is OnUnsupported.BEST_EFFORT and Capability.MOVES in can:
        return Act.MOVE
    return Act.OBSERVE


def act_for(spec: PlacementSpec, can: Collection[Capability], *, waits: bool = False) -> Act:
    """Return what to do for a placement now, as `act_of` unless it says more.

    Args:
        spec: What it asks for.
        can: What the node's backend can.
        waits: Whether its roll-out has not come to the node.
    """
    act = act_of(spec.unsupported, can)
    if act is Act.LEAVE:
        return act
    if spec.paused:
        return Act.PAUSE
    if spec.is_dry_run:
        return Act.TRY
    return Act.WAIT if waits else act


def within(act: Act, plan: Plan) -> Plan:
    """Return what of a plan is done: without policies for MOVE, nothing for those that only tell.

    What its rules hold stays as it was measured.
    """
    if act is Act.PLACE:
        return plan
    moves = plan.moves if act is Act.MOVE else ()
    return replace(plan, policies=(), released=(), moves=moves)


def foreseen(act: Act, plan: Plan) -> Plan:
    """Return what of a plan is done, or would be if a dry run were meant: to be shown, not done."""
    return plan if act is Act.TRY else within(act, plan)
