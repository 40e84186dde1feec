# SPDX-License-Identifier: Apache-2.0
"""The options of ``inspect`` and ``explain``, and their help."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from memplace.errors import ParseError
from memplace.nodes import parse_nodes

_FORMATS = ("table", "wide", "json")
DEFAULT_PORT = 8081
LARGEST = "largest"

_INSPECT = """\
Show the memory of a process: on which NUMA nodes and tiers it is, and which policies it has.
With -f, also show which rule gets which region, and what the plan would do. The command changes
nothing without --apply. It works on any Linux, without a cluster."""

_INSPECT_EXAMPLES = """\
examples:
  inspect --pid 4711                          show its memory
  inspect --pid largest                       show your process with the most memory
  inspect --pid 4711 -f p.yaml                show what each rule gets, and the plan
  inspect --pid 4711 -f p.yaml --tier cxl=1   show the same with NUMA node 1 as tier cxl
  inspect --pid 4711 -o json | jq .process.byTier
  inspect --pid 4711 -f p.yaml --apply        carry out the plan once
  inspect --pid 4711 --undo                   restore the policies

exit status:
  0  The command has done its work.
  1  The command failed.
  2  The command line makes no sense, or the manifest is wrong.
  3  There is no such process, or it has no memory.
  4  The kernel does not permit it.
  5  This kernel can't do that (--apply, --undo).
  6  The command has done a part of its work (--apply, --undo)."""

_MACHINE = """\
Show what memplace could use on this machine: the memory tiers with their capacity and free
memory, and what the kernel can do. The command works on any Linux. It needs no privilege,
changes nothing, and looks at its own process only."""

_EXPLAIN = """\
Ask the agent of this node about containers that follow a placement: which rule gets which
region, and why a region gets none. Run the command in the agent's container:
  kubectl -n memplace-system exec POD -c agent -- memplace-agent explain"""

_EXPLAIN_EXAMPLES = """\
examples:
  explain                        show the containers that this agent places
  explain cache/redis-0          show all containers of a pod
  explain cache/redis-0/redis -o json"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectOptions:
    """What was typed; `pid` 0 is the largest, `tiers` (name, NUMA nodes), `limit` 0 no limit."""

    pid: int
    file: str = ""
    placement: str = ""
    tiers: tuple[tuple[str, tuple[int, ...]], ...] = ()
    output: str = "table"
    limit: int | None = None
    walk: bool = True
    apply: bool = False
    undo: bool = False
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOptions:
    """What was typed: up to three names, the outermost first."""

    names: tuple[str, ...] = ()
    port: int = DEFAULT_PORT
    output: str = "table"
    limit: int | None = None


def inspect_options(args: Sequence[str]) -> InspectOptions:
    """Parse them; ends the program with status 2 and a line about it if they make no sense."""
    parser = _parser("inspect", _INSPECT, _INSPECT_EXAMPLES)
    parser.add_argument(
        "--pid",
        type=_pid,
        required=True,
        help=f"the process id; {LARGEST} is your process with the most memory",
    )
    parser.add_argument(
        "-f",
        "--file",
        default="",
        metavar="FILE",
        help="a file with a MemoryPlacement, and MemoryTiers if the placement needs them; - is "
        "standard input (default: no placement)",
    )
    parser.add_argument(
        "--placement",
        default="",
        metavar="NAME",
        help="the MemoryPlacement to take if FILE has several (default: the only one)",
    )
    _add_tiers(parser)
    _add_output(parser)
    parser.add_argument(
        "--no-walk",
        action="store_true",
        help="do not read numa_maps, because that walks the page tables of the process; bytes are "
        "sampled then, and policies stay unknown if the kernel shows them nowhere else",
    )
    act = parser.add_mutually_exclusive_group()
    act.add_argument("--apply", action="store_true", help="carry out the plan once")
    act.add_argument(
        "--undo", action="store_true", help="restore the policies that --apply changed"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="with --apply: move pages for at most this many seconds (default: 60)",
    )
    known = parser.parse_args(args)
    if known.apply and not known.file:
        parser.error("--apply needs a placement: give it with -f")
    if known.pid == 0 and (known.apply or known.undo):
        parser.error(f"--apply and --undo need the id of a process, not --pid {LARGEST}")
    if known.undo and known.file:
        parser.error("--undo gives back all that --apply has set: leave out -f")
    return InspectOptions(
        pid=known.pid,
        file=known.file,
        placement=known.placement,
        tiers=tuple(known.tier),
        output=known.output,
        limit=known.limit,
        walk=not known.no_walk,
        apply=known.apply,
        undo=known.undo,
        timeout_s=known.timeout,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """What was typed; `tiers` is (name, NUMA nodes)."""

    tiers: tuple[tuple[str, tuple[int, ...]], ...] = ()
    output: str = "table"


def machine_options(args: Sequence[str]) -> MachineOptions:
    """Parse them; as `inspect_options`."""
    parser = _parser("machine", _MACHINE, "")
    _add_tiers(parser)
    parser.add_argument(
        "-o",
        "--output",
        choices=("table", "json"),
        default="table",
        help="the output format (default: table)",
    )
    known = parser.parse_args(args)
    return MachineOptions(tiers=tuple(known.tier), output=known.output)


def explain_options(args: Sequence[str]) -> ExplainOptions:
    """Parse them; as `inspect_options`."""
    parser = _parser("explain", _EXPLAIN, _EXPLAIN_EXAMPLES)
    parser.add_argument(
        "name",
        nargs="?",
        default="",
        metavar="NAMESPACE/POD[/CONTAINER]",
        help="the pod, or one of its containers (default: all that the agent places)",
    )
    port = os.environ.get("MEMPLACE_EXPLAIN_PORT", "")
    parser.add_argument(
        "--port",
        type=int,
        default=int(port) if port.isdecimal() and int(port) else DEFAULT_PORT,
        help="the port on loopback on which the agent listens (default: $MEMPLACE_EXPLAIN_PORT, or "
        f"{DEFAULT_PORT})",
    )
    _add_output(parser)
    known = parser.parse_args(args)
    names = tuple(known.name.split("/")) if known.name else ()
    if len(names) == 1 or len(names) > 3 or not all(names or ("-",)):
        parser.error(f"write NAMESPACE/POD or NAMESPACE/POD/CONTAINER, not {known.name!r}")
    return ExplainOptions(names=names, port=known.port, output=known.output, limit=known.limit)


def _parser(command: str, text: str, examples: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"memplace-agent {command}",
        description=text,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_tiers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tier",
        type=_tier,
        action="append",
        default=[],
        metavar="NAME=NODES",
        help="take NUMA nodes as a tier, for example cxl=1 or cxl=2-3; may be repeated (default: "
        "the tiers that the machine shows)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        choices=_FORMATS,
        default="table",
        help="the output format; wide adds addresses, permissions, and why a region gets no rule "
        "(default: table)",
    )
    parser.add_argument(
        "--limit",
        type=_count,
        default=None,
        metavar="N",
        help="show the N regions with the most bytes; 0 shows all (default: 30 in a table, 200 in "
        "wide, 4096 in json)",
    )


def _pid(text: str) -> int:
    if text == LARGEST:
        return 0
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"not a process id: {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"not a number: {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from err
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError("write more than 0 and at most 86400 seconds")
    return seconds


def _tier(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, listed = text.partition("=")
    try:
        nodes = parse_nodes(listed)
    except ParseError:
        nodes = frozenset()
    if not name or not nodes:
        raise argparse.ArgumentTypeError(f"write a tier and its NUMA nodes as cxl=1, not {text!r}")
    return name, tuple(sorted(nodes))
