# SPDX-License-Identifier: Apache-2.0
"""``memplace-agent machine``: what memplace would have to work with on this machine."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence

import msgspec
from memplace.explain_rules import human_bytes
from memplace.kinds import Capability

from memplace_agent.backends.choice import Choice
from memplace_agent.cli.columns import Column, table
from memplace_agent.cli.errors import Exit, status_of
from memplace_agent.cli.options import MachineOptions, machine_options
from memplace_agent.cli.planning import choice_of, machine_of
from memplace_agent.cli.screen import Screen, print_lines, screen
from memplace_agent.node.machine import Machine
from memplace_agent.node.memory import read_rooms
from memplace_agent.settings import host_from_env

_SCHEMA = 1

# What an admin has of a backend, from the best on.
_MEANS = {
    Capability.POLICIES: "memory is moved to its tier, and new memory is born there",
    Capability.MOVES: "memory can be moved to its tier, again and again; nothing keeps new pages",
    Capability.MEASURES: "memory can be measured, not moved",
}

_COLUMNS = (
    Column("NUMA NODE", right=True),
    Column("TIER"),
    Column("SIZE", right=True),
    Column("FREE", right=True),
    Column("WHY", shrinks=True),
)


class NumaFound(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A NUMA node with memory: its tier (empty for none), bytes, and why it is that tier."""

    numa_node: int
    tier: str
    bytes: int
    free_bytes: int
    why: str


class MachineFound(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What ``-o json`` prints.

    Attributes:
        schema: Changes when a reader that knows the names would be wrong.
        kernel: As uname -r says.
        backend: As in NodeMemory; what an agent with its rights would have here.
        can: What that backend can.
        message: Why it is no better one, and what to do about it.
        numa_nodes: Those with memory.
    """

    schema: int
    kernel: str
    backend: str
    can: tuple[str, ...]
    message: str
    numa_nodes: tuple[NumaFound, ...]


def main(args: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    return status_of(lambda: _run(machine_options(args)))


def _run(options: MachineOptions) -> int:
    host = host_from_env(os.environ)
    machine = machine_of(host, (), options.tiers)
    rooms = read_rooms(host)
    choice = choice_of(host)
    nodes = tuple(_nodes(machine, {number: room.free for number, room in rooms.items()}))
    if options.output == "json":
        found = MachineFound(
            schema=_SCHEMA,
            kernel=os.uname().release,
            backend=choice.name,
            can=choice.capabilities,
            message=choice.message,
            numa_nodes=nodes,
        )
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    else:
        print_lines(_lines(choice, nodes, screen()))
    return Exit.OK


def _nodes(machine: Machine, free: dict[int, int]) -> Iterator[NumaFound]:
    for node in machine.numa_nodes:
        if node.total_bytes:
            verdict = machine.verdicts[node.id]
            yield NumaFound(
                numa_node=node.id,
                tier=verdict.tier,
                bytes=node.total_bytes,
                free_bytes=free.get(node.id, 0),
                why=verdict.why,
            )


def _lines(choice: Choice, nodes: Sequence[NumaFound], on: Screen) -> Iterator[str]:
    release = os.uname().release
    yield f"this machine: Linux {release}; an agent would have backend {choice.name} here"
    means = next(text for can, text in _MEANS.items() if can in choice.can)
    yield f"  {means}"
    yield from textwrap.wrap(choice.message, on.width, initial_indent="  ", subsequent_indent="  ")
    yield ""
    yield from table(
        _COLUMNS,
        [
            (
                str(node.numa_node),
                node.tier or "-",
                human_bytes(node.bytes),
                human_bytes(node.free_bytes),
                node.why,
            )
            for node in nodes
        ],
        on,
    )
    if len(nodes) == 1:
        yield "There is one NUMA node with memory: nothing can be moved, only measured."
