# SPDX-License-Identifier: Apache-2.0
"""A plan as tables and paragraphs for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from memplace.api.v1alpha1 import TierBytes
from memplace.explain_rules import human_bytes
from memplace.nodes import format_nodes
from memplace.reasons import FAILURES, Reason
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from memplace_cli.advice import advise
from memplace_cli.naming import CLUSTER_KIND, OWN_KIND
from memplace_cli.planned import (
    Change,
    ContainerPlan,
    NodePlan,
    PlacementPlan,
    Plan,
    PodPlan,
    Refusal,
    TierPlan,
)
from memplace_cli.render import print_left_out, table
from memplace_cli.words import count, printable, size_or_dash

_GOOD = (Reason.PLACED, Reason.PLACED_BEST_EFFORT)
# How many advices are worth a screen.
_MOST = 4


def show_plan(found: Plan, console: Console) -> None:
    """Print what would be refused, then tiers, then placements, and what it comes to."""
    parts = [
        *map(_refusal, found.refused),
        *map(_tier, found.tiers),
        *map(_placement, found.placements),
    ]
    for part in parts:
        console.print(part)
        console.print()
    for each in found.ignored:
        console.print(_text(f"not of memplace, left aside: {each}", "dim"))
    console.print(_text(_sum(found), "bold"))
    print_left_out(found.left_out, console)


def _sum(found: Plan) -> str:
    if found.refused:
        return f"{count(len(found.refused), 'manifest')} would be refused; nothing was changed"
    selected = [
        each
        for placement in found.placements
        for pod in placement.pods
        for each in pod.containers
        if each.change.is_selected
    ]
    if not selected:
        return "no container is selected; nothing was changed"
    good = sum(each.reason in _GOOD for each in selected)
    return f"{good} of {count(len(selected), 'container')} would be placed; nothing was changed"


def _refusal(found: Refusal) -> RenderableType:
    lines = [_text(f"- {problem}") for problem in found.problems]
    head = _text(f"{found.about} is wrong ({found.where})", "bold red")
    return _under(head, lines)


def _head(kind: str, name: str, changes: Sequence[str], *, exists: bool) -> Text:
    would = "would change" if changes else "would stay as it is"
    return _text(f"{kind} {name} {would if exists else 'would be created'}", "bold")


def _tier(found: TierPlan) -> RenderableType:
    rows = [
        (
            node.name,
            format_nodes(frozenset(node.before)) if node.before else "-",
            format_nodes(frozenset(node.after)) if node.after else "-",
            node.message,
        )
        for node in found.nodes
    ]
    parts: list[RenderableType] = list(_changes(found.changes, found.kept))
    if rows:
        parts.append(table(("NODE", "NUMA NOW", "NUMA THEN", "WHY"), rows))
    parts += [_text(f"note: {note}") for note in found.notes]
    return _under(_head("MemoryTier", found.name, found.changes, exists=found.exists), parts)


def _placement(found: PlacementPlan) -> RenderableType:
    parts: list[RenderableType] = list(_changes(found.changes, found.kept))
    if found.reason:
        parts.append(_text(f"{found.reason}: {found.message}", _style(found.reason)))
    if found.pods:
        parts += _all_pods(found)
    if any(node.reason or node.message or node.room for node in found.nodes):
        parts += [Text(""), _nodes(found.nodes)]
    notes = [_text(f"note: {note}") for note in found.notes]
    advices = [_text(f"-> {each}") for each in _advices(found)]
    if found.pods and (notes or advices):
        parts.append(Text(""))
    kind = OWN_KIND if found.namespace else CLUSTER_KIND
    name = "/".join(filter(None, (found.namespace, found.name)))
    head = _head(kind, name, found.changes, exists=found.exists)
    return _under(head, [*parts, *notes, *advices])


def _changes(changes: Sequence[str], kept: Sequence[str]) -> Iterator[Text]:
    for each in changes:
        yield _text(each)
    for each in kept:
        yield _text(f"stays as it is there, for the manifest does not name it: {each}", "yellow")


def _advices(found: PlacementPlan) -> list[str]:
    containers = [each for pod in found.pods for each in pod.containers]
    reasons = [found.reason, *(each.reason for each in containers if each.is_against)]
    said = dict.fromkeys(filter(None, (advise(reason) for reason in reasons)))
    return list(said)[:_MOST]


def _all_pods(found: PlacementPlan) -> Iterator[RenderableType]:
    # Of one of the cluster a table for each namespace: pods have long names as it is.
    for namespace, pods in groupby(found.pods, key=lambda pod: pod.namespace):
        if not found.namespace:
            yield _text(f"namespace {namespace}")
        yield _pods(tuple(pods))


def _pods(pods: Sequence[PodPlan]) -> RenderableType:
    rows = [
        (
            pod.name if at == 0 else "",
            (pod.node or "-") if at == 0 else "",
            each.name,
            each.change.value,
            _text(each.reason or "-", _style(each.reason)),
            _now(each),
            _why(each),
        )
        for pod in pods
        for at, each in enumerate(pod.containers)
    ]
    heads = ("POD", "NODE", "CONTAINER", "CHANGE", "WOULD BE", "MEMORY NOW", "WHY")
    return table(heads, rows)


def _now(found: ContainerPlan) -> str:
    if found.measured:
        return _tier_bytes(found.tiers) or "none"
    return f"limit {human_bytes(found.limit_bytes)}" if found.limit_bytes else "not known"


def _why(found: ContainerPlan) -> str:
    parts = [found.message]
    if found.change is Change.COMES and found.before:
        parts.append(f"placement {found.before} has it now")
    if found.would_move_bytes and found.reason in (*_GOOD, Reason.DRY_RUN):
        parts.append(f"{human_bytes(found.would_move_bytes)} would move")
    return "; ".join(filter(None, parts)) or "-"


def _nodes(nodes: Sequence[NodePlan]) -> RenderableType:
    rows = []
    for node in nodes:
        room = node.room
        why = f"{node.reason}: {node.message}" if node.reason else node.message
        said = "; ".join(filter(None, (why, room.message if room else ""))) or "-"
        rows.append(
            (
                node.name,
                node.backend or "-",
                ", ".join(room.tiers) if room else "-",
                size_or_dash(room.capacity_bytes if room else 0),
                size_or_dash(room.placed_bytes if room else 0),
                size_or_dash(room.would_move_bytes if room else 0),
                size_or_dash(room.limit_bytes if room else 0),
                said,
            )
        )
    heads = ("NODE", "BACKEND", "TIERS", "CAPACITY", "PLACED", "MOVES", "LIMITS", "WHY NOT")
    return table(heads, rows, right=(3, 4, 5, 6))


def _style(reason: str) -> str:
    if reason in _GOOD:
        return "green"
    return "red" if reason in FAILURES else "yellow"


def _tier_bytes(tiers: Iterable[TierBytes]) -> str:
    return "\n".join(f"{tier.name} {human_bytes(tier.bytes)}" for tier in tiers)


def _under(head: Text, parts: Sequence[RenderableType]) -> RenderableType:
    return Group(head, Padding(Group(*parts), (0, 0, 0, 2)))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style, overflow="fold")
