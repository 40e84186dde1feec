# SPDX-License-Identifier: Apache-2.0
"""How many bytes a placement is about, as far as reports tell, and whether they fit. Pure.

A report has bytes of rules, not of regions: what *other* rules would hold of a container nobody
knows before an agent has looked. What is free of a tier is not reported either: what is known is
its capacity, and what placements hold there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from memplace.api.v1alpha1 import ContainerReport, ContainerState, NodeMemory, PlacementSpec
from memplace.explain_rules import human_bytes
from memplace.kinds import ExistingPages
from memplace.nodes import NumaSet
from memplace.pods import bare_id
from memplace.reasons import Reason
from msgspec.structs import replace

from memplace_cli.feasible import rule_nodes
from memplace_cli.planned import ContainerPlan, TierRoom
from memplace_cli.tiers import placed_by_node
from memplace_cli.words import count

# A machine's word on a container, whatever the placement.
_OF_THE_CONTAINER = (Reason.SANDBOXED_RUNTIME, Reason.UNSUPPORTED_CGROUP)


@dataclass(frozen=True, slots=True)
class _Found:
    placement: str  # its uid
    container: ContainerReport


class Reports:
    """What agents say of containers, by pod, container and its present life."""

    def __init__(self, nodes: Iterable[NodeMemory]) -> None:
        self._found: dict[tuple[str, str, str], list[_Found]] = {}
        for node in nodes:
            for placement in node.status.placements:
                for pod in placement.pods:
                    for each in pod.containers:
                        key = (pod.uid, each.name, bare_id(each.container_id))
                        self._found.setdefault(key, []).append(_Found(placement.uid, each))

    def of(self, pod: str, name: str, container_id: str, placement: str) -> ContainerReport | None:
        """Return what a placement's report says of a container; None if it says nothing.

        Args:
            pod: The uid of its pod.
            name: Its name.
            container_id: Of its present life, bare.
            placement: The uid of the placement.
        """
        found = self._found.get((pod, name, container_id), ())
        return next((each.container for each in found if each.placement == placement), None)

    def never(self, pod: str, name: str, container_id: str) -> ContainerReport | None:
        """Return a report that says that nobody can place the container, if there is one."""
        found = self._found.get((pod, name, container_id), ())
        return next(
            (
                each.container
                for each in found
                if each.container.state is ContainerState.UNSUPPORTED
                and each.container.reason in _OF_THE_CONTAINER
            ),
            None,
        )


def moves_of(
    report: ContainerReport | None,
    before: PlacementSpec | None,
    after: PlacementSpec,
    tiers: Mapping[str, NumaSet],
    tier: str = "",
) -> int | None:
    """Return how many measured bytes would move; None where that can't be told.

    It can where the rules mean the same regions as those that were measured.

    Args:
        report: What was measured under the spec before.
        before: None for a container that followed another placement, or none.
        after: The spec that would be.
        tiers: Of the node, by name.
        tier: Only those of rules that name it; empty for all.
    """
    if report is None or before is None or not _same_regions(before, after):
        return None
    leave = {rule.name for rule in after.rules if rule.existing is ExistingPages.LEAVE}
    named = {rule.name for rule in after.rules if tier in ("", *rule.policy.tiers)}
    wants = {name: nodes for name, nodes in rule_nodes(after, tiers).items() if name in named}
    return sum(
        at.bytes
        for rule in report.rules
        if rule.name in wants and rule.name not in leave
        for at in rule.numa_nodes
        if at.id not in wants[rule.name]
    )


def _same_regions(before: PlacementSpec, after: PlacementSpec) -> bool:
    # In one order, since the first rule that means a region has it.
    return [(r.name, r.regions, r.exclude, r.override) for r in before.rules] == [
        (r.name, r.regions, r.exclude, r.override) for r in after.rules
    ]


def room_for(
    spec: PlacementSpec,
    node: NodeMemory,
    tiers: Mapping[str, NumaSet],
    containers: Sequence[ContainerPlan],
) -> TierRoom | None:
    """Compare what a placement would bring to the tiers of a node with what they have.

    Args:
        spec: Of the placement.
        node: The node.
        tiers: Its tiers, as they would be.
        containers: Those of the placement there that would be placed.
    """
    wants: NumaSet = frozenset[int]().union(*rule_nodes(spec, tiers).values())
    if not wants:
        return None
    names = dict.fromkeys(t for rule in spec.rules for t in rule.policy.tiers if t in tiers)
    placed = placed_by_node(node)
    limits = [each.limit_bytes for each in containers if each.would_move_bytes is None]
    room = TierRoom(
        tiers=tuple(names),
        capacity_bytes=sum(n.total_bytes for n in node.status.numa_nodes if n.id in wants),
        placed_bytes=sum(placed[number] for number in wants),
        would_move_bytes=sum(each.would_move_bytes or 0 for each in containers),
        limit_bytes=sum(limits),
        unknown=limits.count(0),
    )
    return replace(room, message=_against(room))


def _against(room: TierRoom) -> str:
    if not room.capacity_bytes:  # an agent that tells no sizes
        return ""
    left = max(room.capacity_bytes - room.placed_bytes, 0)
    on = f"{human_bytes(left)} of {' and '.join(room.tiers)} there is not held by placements"
    if room.would_move_bytes > left:
        return f"{human_bytes(room.would_move_bytes)} would move, and only {on}"
    asked = room.would_move_bytes + room.limit_bytes
    if asked > left:
        return f"may not fit: the containers may use {human_bytes(asked)}, and only {on}"
    if room.unknown:
        return (
            f"whether it fits can't be told: {count(room.unknown, 'container')} with neither a "
            "measurement nor a memory limit"
        )
    return ""
