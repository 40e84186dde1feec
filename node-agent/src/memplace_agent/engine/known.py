# SPDX-License-Identifier: Apache-2.0
"""What the reconciler keeps of each container, and what of it is news."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from memplace.api.v1alpha1 import ContainerReport, Placement
from memplace.assignment import Assignment, PlacementIndex, Target, View
from memplace.backends import Act
from memplace.claims import Claim
from memplace.objects import object_of
from memplace.pods import PodState

from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.look import Container
from memplace_agent.engine.mover import Mover
from memplace_agent.engine.undoing import Standing
from memplace_agent.node.machine import Machine
from memplace_agent.report import Subject
from memplace_agent.world import World


@dataclass(slots=True)
class Listed:
    """A container that the API calls running."""

    pod: PodState
    name: str
    assignment: Assignment | None = None

    def tried(self, act_for: Callable[[Placement], Act]) -> tuple[Placement, ...]:
        """Return the dry runs that tell what they would do to it, were each of them meant.

        That is the placement that it follows, and the first of those that would take it from
        that one: whoever makes many dry runs for the same containers has one of them measured.

        Args:
            act_for: What is done for a placement on this node.
        """
        if self.assignment is None or act_for(self.assignment.winner) is Act.LEAVE:
            return ()
        found = (self.assignment.winner, self.assignment.trial)
        return tuple(each for each in found if each and act_for(each) is Act.TRY)

    def trial(self, act_for: Callable[[Placement], Act]) -> Placement | None:
        """Return the dry run among them that it does not follow now."""
        found = self.tried(act_for)
        return next((each for each in found if each is not self._winner), None)

    @property
    def _winner(self) -> Placement | None:
        return self.assignment.winner if self.assignment else None


@dataclass(slots=True)
class Followed:
    """A container that follows a placement, and what the last look made of it.

    Attributes:
        container: Its processes.
        report: How it fares.
        ref: Its cgroup; None while there is none.
        placed: The spec, as uid and generation of its placement, that it was last called
            Placed under.
        unsettled_at: Since when something was misplaced, or not seen; None while all is in
            place.
    """

    container: Container
    report: ContainerReport
    ref: CgroupRef | None = None
    placed: tuple[str, int] | None = None
    unsettled_at: float | None = None

    def end(self, mover: Mover) -> None:
        """Say that it follows none any more: its moves end with the call that is under way."""
        self.container.cancel.set()
        for identity in self.container.identities:
            mover.forget(identity)
        mover.wake()


class Whole(NamedTuple):
    """What followed from a world that was taken to the end; see `State`."""

    view: View
    paused: frozenset[str] = frozenset()
    machine: Machine = Machine()


@dataclass(slots=True)
class State:
    """What a reconciler knows: what is wanted, what the node has, how all of it fares.

    `paused` has the uids of placements that are paused, `paused_pods` what the cgroups of pods
    may be named for that one of these has a container of; `given_back` has the uids of those
    that are there and for which what was done is to be undone all the same; what differs from
    `whole` is to be done yet, also if an error ended the take that found it.
    """

    world: World = field(default_factory=World)
    placements: PlacementIndex = field(default_factory=lambda: PlacementIndex([]))
    view: View = field(default_factory=lambda: View(PlacementIndex([]), [], {}))
    machine: Machine = field(default_factory=Machine)
    listed: dict[str, Listed] = field(default_factory=dict)
    followed: dict[str, Followed] = field(default_factory=dict)
    undoing: dict[str, str] = field(default_factory=dict)
    is_synced: bool = False
    paused: frozenset[str] = frozenset()
    paused_pods: frozenset[str] = frozenset()
    given_back: frozenset[str] = frozenset()
    machine_at: float = float("-inf")
    whole: Whole = field(default_factory=lambda: Whole(View(PlacementIndex([]), [], {})))

    def settle(self) -> None:
        """Say that all that follows from what is known now is done, or due."""
        self.whole = Whole(self.view, self.paused, self.machine)

    def list_containers(self) -> None:
        """List the containers of the world's pods anew, each with the placement it follows."""
        self.listed = {
            container_id: Listed(pod, name)
            for pod in self.world.pods
            for name, container_id in pod.container_ids.items()
        }
        targets = [Target(id_, each.pod.ref, each.name) for id_, each in self.listed.items()]
        self.view = View(self.placements, targets, self.machine.tiers)
        for container_id, assignment in self.view.assignments.items():
            self.listed[container_id].assignment = assignment

    @property
    def refs(self) -> dict[str, CgroupRef]:
        """The cgroups of the containers that follow a placement, of those that have one."""
        return {id_: each.ref for id_, each in self.followed.items() if each.ref}


class News(IntEnum):
    """What has changed of the reports: nothing, only bytes, or how somebody fares."""

    NONE = 0
    FIGURES = 1
    STATE = 2


def news_of(
    before: tuple[ContainerReport | None, str | None],
    after: tuple[ContainerReport | None, str | None],
) -> News:
    """Compare what is said of a container, and of its undo, with what was said before."""
    if before == after:
        return News.NONE
    then, now = before[0], after[0]
    if then is None or now is None or before[1] != after[1]:
        return News.STATE
    is_same = (then.state, then.reason, then.message) == (now.state, now.reason, now.message)
    return News.FIGURES if is_same else News.STATE


def standing_of(claim: Claim, state: State, *, is_populated: bool | None) -> Standing:
    """Say what is known of a claim's container that follows nothing, or of an object.

    Args:
        claim: The claim.
        state: What is known of everything.
        is_populated: See `Standing`; of an object it does not matter.
    """
    world, (uid, namespace, _) = state.world, claim.placement
    is_known = world.knows(namespace)
    is_object = object_of(claim.container) is not None
    return Standing(
        is_synced=state.is_synced,
        placement_exists=not is_known or (world.has(uid) and uid not in state.given_back),
        winner=uid if _is_followed(claim, state) else None,
        is_understood=is_known and uid not in world.held_placements,
        is_paused=uid in state.paused,
        pod_is_listed=is_object or claim.container in state.listed,
        is_populated=is_object or is_populated,
    )


def _is_followed(claim: Claim, state: State) -> bool:
    # Whether a container that follows a claim's placement has the object that it is of.
    one = object_of(claim.container)
    uid = claim.placement[0]
    if one is None or uid in state.given_back:
        return False
    return any(
        each.container.wanted.placement.uid == uid and each.container.may_map(one)
        for each in state.followed.values()
    )


def subject_of(container_id: str, listed: Listed, assignment: Assignment) -> Subject:
    """Name a container under the placement it follows."""
    return Subject(assignment.winner, listed.pod.ref, listed.name, container_id)
