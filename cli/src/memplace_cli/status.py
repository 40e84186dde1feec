# SPDX-License-Identifier: Apache-2.0
"""One screen about the cluster: nodes, placements, and what needs attention. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from memplace.api.conditions import Condition, find_condition
from memplace.api.v1alpha1 import NodeMemory, Placement, TierBytes
from memplace.reasons import ConditionType, Reason
from msgspec import UNSET

from memplace_cli.advice import advise, meaning
from memplace_cli.facts import ClusterFacts, Unread, is_retired, why_backend
from memplace_cli.tiers import TierShown, sums, tiers_of

# What is wrong with a node itself, whatever its kernel; the kernel is told of in its row.
_NODE_TROUBLE = (Reason.SECCOMP_FILTERED, Reason.MISSING_CAPABILITY, Reason.ANOTHER_AGENT)


class _Shown(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    pass


class NodeShown(_Shown, frozen=True, kw_only=True):
    """A node: its backend, and why not a better one."""

    name: str
    backend: str
    reason: str = ""
    message: str = ""
    agent_version: str = ""
    tiers: tuple[TierShown, ...] = ()


class RolloutShown(_Shown, frozen=True, kw_only=True):
    """How far a roll-out is: nodes that are released, of those with pods."""

    state: str
    nodes: int = 0
    released_nodes: int = 0


class PlacementShown(_Shown, frozen=True, kw_only=True):
    """A placement: what its operator says of it; one of the cluster has no namespace."""

    namespace: str
    name: str
    ready: str
    reason: str
    message: str = ""
    matched_pods: int = 0
    placed_pods: int = 0
    tiers: tuple[TierBytes, ...] = ()
    rollout: RolloutShown | None = None


class Attention(_Shown, frozen=True, kw_only=True):
    """Something that does not resolve by itself.

    Attributes:
        about: Which object.
        reason: One word for machines.
        sentence: What that means in general.
        message: What it is here.
        advice: What to do.
    """

    about: str
    reason: str
    sentence: str = ""
    message: str = ""
    advice: str = ""


class Status(_Shown, frozen=True, kw_only=True):
    """The screen."""

    schema: int = 1
    nodes: tuple[NodeShown, ...] | None = ()
    placements: tuple[PlacementShown, ...] = ()
    attention: tuple[Attention, ...] = ()
    left_out: tuple[str, ...] = ()


def status(facts: ClusterFacts) -> Status:
    """Return what there is to say about a cluster, as far as it could be read."""
    placements = facts.placements or ()
    unread = [
        Attention(
            about=each.about,
            reason=Reason.NOT_UNDERSTOOD,
            message=f"this version of the command does not understand it: {each.problem}",
            advice="Use the version of kubectl memplace that belongs to the cluster's CRDs.",
        )
        for each in facts.unread
    ]
    return Status(
        nodes=None if facts.nodes is None else tuple(map(_node, facts.nodes)),
        placements=(*map(_placement, placements), *map(_unread, _placements_of(facts))),
        attention=(
            *(found for each in placements for found in _of_placement(each)),
            *(found for node in facts.nodes or () for found in _of_node(node)),
            *unread,
        ),
        left_out=facts.left_out,
    )


def _placements_of(facts: ClusterFacts) -> list[Unread]:
    # NodeMemories have no namespace.
    return [each for each in facts.unread if each.is_cluster or "/" in each.name]


def _node(node: NodeMemory) -> NodeShown:
    reason, message = why_backend(node)
    backend = node.status.backend
    return NodeShown(
        name=node.name,
        backend=backend.name.value if backend else "Unknown",
        reason=reason or (Reason.PENDING if node.status.heartbeat_time is None else ""),
        message=message,
        agent_version=node.status.agent_version,
        tiers=tiers_of(node),
    )


def _placement(placement: Placement) -> PlacementShown:
    found = placement.status
    ready = find_condition(found.conditions, ConditionType.READY)
    return PlacementShown(
        namespace=placement.namespace,
        name=placement.name,
        ready=ready.status if ready else "Unknown",
        reason=ready.reason if ready else Reason.PENDING,
        message=ready.message if ready else "the operator has not judged it yet",
        matched_pods=found.matched_pods,
        placed_pods=found.placed_pods,
        tiers=sums(tier for rule in found.rules for tier in rule.tiers),
        rollout=_rollout(placement),
    )


def _rollout(placement: Placement) -> RolloutShown | None:
    found = placement.status.rollout
    if found is None or placement.spec.rollout is UNSET:
        return None
    return RolloutShown(state=found.state, nodes=found.nodes, released_nodes=found.released_nodes)


def _unread(each: Unread) -> PlacementShown:
    namespace, _, name = each.name.rpartition("/")
    return PlacementShown(
        namespace=namespace,
        name=name,
        ready="Unknown",
        reason=Reason.NOT_UNDERSTOOD,
        message=each.problem,
    )


def _of_placement(placement: Placement) -> Iterator[Attention]:
    about = placement.title
    found = placement.status
    if found.observed_generation != placement.generation:
        yield Attention(
            about=about,
            reason=Reason.PENDING,
            message=f"the operator has not judged generation {placement.generation} of it yet",
            advice="If this stays, the operator does not work: kubectl memplace doctor.",
        )
        return
    for type_ in (ConditionType.DEGRADED, ConditionType.UNSUPPORTED):
        condition = find_condition(found.conditions, type_)
        if condition is not None and condition.status == "True":
            yield _attention(about, condition)
    progressing = find_condition(found.conditions, ConditionType.PROGRESSING)
    if progressing is not None and progressing.reason == Reason.ROLLOUT_HELD:
        yield _attention(about, progressing)


def _of_node(node: NodeMemory) -> Iterator[Attention]:
    about = f"node {node.name}"
    reason, message = why_backend(node)
    if reason in _NODE_TROUBLE:
        yield _said(about, reason, message)
    complete = find_condition(node.status.conditions, ConditionType.COMPLETE)
    if complete is not None and complete.status == "False":
        yield _attention(about, complete)
    if is_retired(node):
        retired = find_condition(node.status.conditions, ConditionType.RETIRED)
        told = "its agent is told to retire and places nothing"
        yield _said(about, Reason.RETIRED, (retired.message if retired else "") or told)


def _attention(about: str, condition: Condition) -> Attention:
    return _said(about, condition.reason, condition.message)


def _said(about: str, reason: str, message: str) -> Attention:
    return Attention(
        about=about,
        reason=reason,
        sentence=meaning(reason),
        message=message,
        advice=advise(reason),
    )
