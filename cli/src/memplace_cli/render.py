# SPDX-License-Identifier: Apache-2.0
"""What is said, as tables and paragraphs for a terminal.

Texts are texts, never markup: names come from tenants and programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from memplace.api.v1alpha1 import TierBytes
from memplace.explain_rules import human_bytes
from memplace.nodes import format_nodes
from memplace.reasons import FAILURES, Reason
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from memplace_cli.bars import draw
from memplace_cli.doctor import Diagnosis, Mark
from memplace_cli.picture import of_pod
from memplace_cli.said import ContainerSaid, PodSaid
from memplace_cli.status import Attention, NodeShown, RolloutShown, Status
from memplace_cli.tiers import Tiers, TierShown
from memplace_cli.words import count, printable, size_or_dash

# Of a column of names before it is folded.
_NAME = 36
_MARKS = {Mark.OK: "green", Mark.WARN: "yellow", Mark.FAIL: "bold red", Mark.SKIP: "dim"}


def show_status(found: Status, console: Console) -> None:
    """Print the screen of status."""
    if found.nodes is not None:
        console.print(_nodes(found.nodes))
        console.print()
    rolled = any(each.rollout for each in found.placements)
    rows: list[tuple[str | Text, ...]] = [
        (
            each.namespace or "(cluster)",
            each.name,
            _ready(each.ready, each.reason),
            each.reason,
            f"{each.placed_pods}/{each.matched_pods}",
            *([_rollout(each.rollout)] if rolled else []),
            _tier_bytes(each.tiers),
        )
        for each in found.placements
    ]
    heads = ["NAMESPACE", "PLACEMENT", "READY", "REASON", "PLACED"]
    heads += ["ROLLOUT", "BYTES"] if rolled else ["BYTES"]
    console.print(table(heads, rows) if rows else Text("no placements"))
    console.print()
    console.print(_attention(found.attention))
    print_left_out(found.left_out, console)


def show_tiers(found: Tiers, console: Console) -> None:
    """Print the table of tiers."""
    rows = [
        (
            each.node,
            each.tier or "(none)",
            format_nodes(each.numa_nodes),
            size_or_dash(each.capacity_bytes),
            size_or_dash(each.placed_bytes),
            each.evidence,
        )
        for each in found.tiers
    ]
    heads = ("NODE", "TIER", "NUMA", "CAPACITY", "PLACED", "EVIDENCE")
    console.print(table(heads, rows, right=(3, 4)) if rows else Text("no node has reported"))
    print_left_out(found.left_out, console)


def show_pod(found: PodSaid, console: Console) -> None:
    """Print what explain says of a pod."""
    on = f"on node {found.node}" if found.node else "without a node yet"
    backend = f", backend {found.backend}" if found.backend else ""
    agent = f", agent {found.agent}" if found.node else ""
    console.print(_text(f"pod {found.namespace}/{found.name} {on}{backend}{agent}", "bold"))
    for container in found.containers:
        console.print()
        console.print(_container(container))
    drawn = list(draw(of_pod(found)))
    if drawn:
        console.print()
        console.print(Text("where it is, by container and rule:"))
        for line in drawn:
            console.print(Padding(line, (0, 0, 0, 2)), soft_wrap=True)
    if found.regions:
        console.print()
        console.print(Text("its regions, for who may enter the agent's pod:"))
        # As one line, to be copied.
        console.print(_text(f"  {found.regions}"), soft_wrap=True)
    print_left_out(found.left_out, console)


def show_diagnosis(found: Diagnosis, console: Console) -> None:
    """Print the checks."""
    grid = _grid(("", "CHECK", "WHAT WAS FOUND"))
    for check in found.checks:
        what: list[RenderableType] = [_text(check.detail)]
        if check.advice:
            what.append(_text(f"-> {check.advice}"))
        grid.add_row(_text(check.mark, _MARKS[check.mark]), _text(check.what), Group(*what))
    console.print(grid)
    console.print()
    console.print(_text(_summary(found)))


def _summary(found: Diagnosis) -> str:
    marks = [check.mark for check in found.checks]
    if not found.healthy:
        return f"{count(marks.count(Mark.FAIL), 'thing')} wrong"
    return "nothing wrong in what could be checked" if Mark.SKIP in marks else "all is well"


def _nodes(nodes: Sequence[NodeShown]) -> RenderableType:
    if not nodes:
        return Text("no node has reported: look at the agent's DaemonSet (kubectl memplace doctor)")
    rows = [(each.name, each.backend, _tiers(each.tiers), _why(each)) for each in nodes]
    return table(("NODE", "BACKEND", "TIERS", "WHY NOT A BETTER ONE"), rows)


def _why(node: NodeShown) -> str:
    if node.reason == Reason.PROCESS_MBIND_AVAILABLE:
        return "-"
    return ": ".join(filter(None, (node.reason, node.message)))


def _tiers(tiers: Iterable[TierShown]) -> str:
    return "\n".join(
        f"{tier.tier} {size_or_dash(tier.capacity_bytes)}" for tier in tiers if tier.tier
    )


def _rollout(found: RolloutShown | None) -> str:
    if found is None:
        return "-"
    return f"{found.state} {found.released_nodes}/{found.nodes}"


def _tier_bytes(tiers: Iterable[TierBytes]) -> str:
    return ", ".join(f"{tier.name} {human_bytes(tier.bytes)}" for tier in tiers) or "-"


def _ready(status: str, reason: str) -> Text:
    if status == "True":
        return Text(status, "green")
    return Text(status, "red" if reason in FAILURES else "yellow")


def _attention(found: Sequence[Attention]) -> RenderableType:
    if not found:
        return Text("nothing needs attention", "green")
    parts: list[RenderableType] = [Text("needs attention", "bold")]
    for each in found:
        lines = [line for line in (each.sentence, each.message) if line]
        parts.append(_text(f"{each.about}: {each.reason}", "bold red"))
        parts.append(Padding(_paragraphs(lines, each.advice), (0, 0, 0, 2)))
    return Group(*parts)


def _paragraphs(lines: Iterable[str], advice: str) -> RenderableType:
    texts = [_text(line) for line in lines]
    if advice:
        texts.append(_text(f"-> {advice}"))
    return Group(*texts)


def _container(found: ContainerSaid) -> RenderableType:
    parts = list(_container_parts(found))
    return Group(parts[0], Padding(Group(*parts[1:]), (0, 0, 0, 2)))


def _container_parts(found: ContainerSaid) -> Iterator[RenderableType]:
    follows = f"follows placement {found.placement}" if found.placement else "follows no placement"
    yield _text(f"container {found.name} {follows}", "bold")
    said = f"{found.reason}: {found.sentence}" if found.sentence else found.reason
    yield _paragraphs(filter(None, (said, found.message)), found.advice)
    for note in found.notes:
        yield _text(f"note: {note}")
    if found.losers:
        yield Text("placements that it does not follow:")
        for loser in found.losers:
            yield Padding(_text(f"{loser.placement}: {loser.why}"), (0, 0, 0, 2))
    if found.tiers:
        yield _text(f"bytes by tier: {_tier_bytes(found.tiers)}")
    if found.new_memory:
        yield _text(f"new memory: {found.new_memory}")
    if found.rules:
        yield _rules(found)


def _rules(found: ContainerSaid) -> RenderableType:
    rows = [
        (
            rule.name,
            rule.wants,
            str(rule.regions),
            size_or_dash(rule.bytes),
            size_or_dash(rule.misplaced_bytes),
            str(rule.own_regions),
            _tier_bytes(rule.tiers),
        )
        for rule in found.rules
    ]
    heads = ("RULE", "WANTS", "REGIONS", "BYTES", "MISPLACED", "OWN", "WHERE")
    return table(heads, rows, right=(2, 3, 4, 5))


def print_left_out(left_out: Sequence[str], console: Console) -> None:
    """Print what could not be read, if there is any."""
    if not left_out:
        return
    console.print()
    console.print(Text("left out, for want of the right or the object:", "dim"))
    for each in left_out:
        console.print(Padding(_text(each, "dim"), (0, 0, 0, 2)))


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str | Text]], right: Sequence[int] = ()
) -> Table:
    """Make a table of texts; the columns named in `right` are numbers, the last gives way."""
    grid = _grid(heads, rows, right)
    for row in rows:
        grid.add_row(*(each if isinstance(each, Text) else _text(each) for each in row))
    return grid


def _grid(
    heads: Sequence[str],
    rows: Sequence[Sequence[str | Text]] = (),
    right: Sequence[int] = (),
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for at, title in enumerate(heads):
        longest = max((len(line) for row in rows for line in str(row[at]).split("\n")), default=0)
        table.add_column(
            title,
            justify="right" if at in right else "left",
            # The last column gives way.
            min_width=None if at == len(heads) - 1 else min(max(longest, len(title)), _NAME),
        )
    return table


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style, overflow="fold")
