# SPDX-License-Identifier: Apache-2.0
"""What containers that do not run yet are to have from their first page on. Pure.

A container that is being made has a cgroup, named for an id that the API server will hear of
later. What is known of it is its pod. So it has a default if all containers of its pod have the
same, or if somebody can tell its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from memplace.api.v1alpha1 import Placement, Rule
from memplace.assignment import PlacementIndex
from memplace.claim_view import View
from memplace.claims import DEFAULT, Claim, Process
from memplace.future import Future, Implied, implied_future
from memplace.kinds import Policy
from memplace.ledger import record_newborn
from memplace.nodes import NumaSet
from memplace.pods import PodState
from memplace.problems import Problem, policy_of

from memplace_agent.containers.names import normal_uid
from memplace_agent.engine.apply import SetFuture
from memplace_agent.engine.to_come import ToCome, todo
from memplace_agent.node.machine import Machine
from memplace_agent.procfs.status import Status
from memplace_agent.world import World


@dataclass(frozen=True, slots=True)
class Newborn:
    """What a container that is being made is to have.

    Attributes:
        placement: The placement it will follow.
        future: The defaults that its rules imply, at least one.
        tiers: Tier name to NUMA nodes of this node.
        known_tiers: Names that are tiers somewhere.
    """

    placement: Placement
    future: Future
    tiers: Mapping[str, NumaSet]
    known_tiers: frozenset[str]

    @property
    def names(self) -> tuple[str, str, str]:
        """Uid, namespace and name of the placement, as a claim has them."""
        return self.placement.uid, self.placement.namespace, self.placement.name

    def means(self, other: Newborn) -> bool:
        """Return whether another one asks for the same, whatever else has changed."""
        return (self.placement.uid, self.future, self.tiers) == (
            other.placement.uid,
            other.future,
            other.tiers,
        )

    def todo(self, status: Status, view: View) -> ToCome:
        """Return what is to be done in one of its processes; as `to_come.todo`."""

        def of_rule(rule: Rule) -> Policy | Problem:
            return policy_of(rule, self.tiers, status.allowed, self.known_tiers)

        return todo(self.future, of_rule, status, view)

    def steps(self, claim: Claim, status: Status) -> tuple[Claim, tuple[SetFuture, ...]]:
        """Return what to do in a process without a program of its own, and the claim before it.

        Args:
            claim: As known by now.
            status: What was just read of the process.
        """
        steps: list[SetFuture] = []
        for step in self.todo(status, View(claim, process_of(status))).steps:
            policy = step.policy
            if policy != DEFAULT:
                claim, policy = record_newborn(claim, policy, status.allowed)
            steps.append(SetFuture(kinds=step.kinds, policy=policy, least=step.least))
        return claim, tuple(steps)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the containers of one pod are to have, by name; None for none."""

    containers: Mapping[str, Newborn | None]

    def of(self, name: str | None) -> Newborn | None:
        """Return it for one container; without its name, if it is the same for all of them."""
        if name is not None:
            return self.containers.get(name)
        first, *others = self.containers.values()
        is_one = all(first and other and first.means(other) for other in others)
        return first if is_one else None


# By what a pod's cgroup may be named for. Never changed once it is made: threads share it.
Table = Mapping[str, Expected]

NOTHING: Table = {}


def process_of(status: Status) -> Process:
    """Return a process without an image: nothing that is mapped is asked about."""
    mmap, brk = status.future_mmap, status.future_brk
    return Process(
        0,
        status.allowed,
        future=mmap.whole_policy if mmap else None,
        future_brk=brk.whole_policy if brk else None,
    )


def expected(
    world: World,
    placements: PlacementIndex,
    machine: Machine,
    closed: Collection[tuple[str, str]] = (),
) -> Table:
    """Return what the pods of a node imply; those that imply nothing are not in it.

    Args:
        world: What the cluster wants.
        placements: Its placements.
        machine: The node.
        closed: Namespaces and tiers: what comes of the one gets nothing of the other.
    """
    found: dict[str, Expected] = {}
    futures: dict[str, Future] = {}
    for pod in world.pods:
        if pod.life == "Ended" or pod.ref.uid in world.held_pods:
            continue
        each = _of_pod(pod, placements, machine, futures)
        if closed:
            each = {name: _open(newborn, closed) for name, newborn in each.items()}
        if any(each.values()):
            found |= {normal_uid(uid): Expected(each) for uid in pod.cgroup_uids}
    return found


def _open(newborn: Newborn | None, closed: Collection[tuple[str, str]]) -> Newborn | None:
    if newborn is None:
        return None
    implied = (newborn.future.brk, newborn.future.mmap)
    rules = [each.rule for each in implied if isinstance(each, Implied)]
    namespace = newborn.placement.tenant
    is_closed = any((namespace, tier) in closed for r in rules for tier in r.policy.tiers)
    return None if is_closed else newborn


def paused_pods(world: World, placements: PlacementIndex) -> frozenset[str]:
    """Return what the cgroups of pods may be named for whose shims are left as they are.

    A shim may have the default of one container's placement, and another one's be paused.
    """
    if not any(placement.is_frozen for placement in world.placements):
        return frozenset()
    return frozenset(
        normal_uid(uid)
        for pod in world.pods
        if pod.life != "Ended"
        and any(each.winner.is_frozen for each in placements.assign(pod.whole).values())
        for uid in pod.cgroup_uids
    )


def _of_pod(
    pod: PodState, placements: PlacementIndex, machine: Machine, futures: dict[str, Future]
) -> dict[str, Newborn | None]:
    assigned = placements.assign(pod.whole)
    return {
        name: _newborn(assigned[name].winner, machine, futures) if name in assigned else None
        for name in pod.whole.containers
    }


def _newborn(placement: Placement, machine: Machine, futures: dict[str, Future]) -> Newborn | None:
    if placement.is_frozen or placement.spec.is_dry_run:
        return None
    if placement.uid not in futures:
        futures[placement.uid] = implied_future(placement.spec.rules)
    future = futures[placement.uid]
    if not any(isinstance(each, Implied) for each in (future.brk, future.mmap)):
        return None
    return Newborn(placement, future, machine.tiers, machine.known_tiers)
