# SPDX-License-Identifier: Apache-2.0
"""``memplace-agent inspect``: one process, seen as rules see it, and what a plan would do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import msgspec
from memplace.api.v1alpha1 import MemoryTier, Placement
from memplace.explained import SCHEMA, ProcessExplained

from memplace_agent.cli.errors import CommandFailed, Exit, status_of
from memplace_agent.cli.largest import largest
from memplace_agent.cli.options import InspectOptions, inspect_options
from memplace_agent.cli.planning import choice_of, explained, machine_of
from memplace_agent.cli.reading import Process
from memplace_agent.cli.screen import print_lines, screen
from memplace_agent.cli.table import process_lines
from memplace_agent.settings import host_from_env


def main(args: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    return status_of(lambda: _run(inspect_options(args)))


def _run(options: InspectOptions) -> int:
    host = host_from_env(os.environ)
    if not options.pid:
        options = replace(options, pid=largest(host))
    placement, tiers = _wanted(options)
    machine = machine_of(host, tiers, options.tiers)
    if options.apply or options.undo:
        # What acts brings the engine along; who looks only need not wait for that.
        from memplace_agent.cli.applying import apply, undo

        if placement is not None:
            return apply(host, options, placement, machine)
        return undo(host, options, machine)
    process = Process(host, options.pid, options.walk)
    with process.pinned() as pinned:
        look = process.look(pinned)
    show(explained(look, placement, machine, options, choice_of(host).can), options)
    return Exit.OK


def show(process: ProcessExplained, options: InspectOptions) -> None:
    """Print it as it was asked for."""
    if options.output == "json":
        document = {"schema": SCHEMA, "process": process}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
        return
    print_lines(process_lines(process, screen(), wide=options.output == "wide"))


def _wanted(options: InspectOptions) -> tuple[Placement | None, list[MemoryTier]]:
    if not options.file:
        return None, []
    # Reading YAML takes a module that nothing else here needs.
    from memplace_agent.cli.manifest import read_manifest

    manifest = read_manifest(options.file)
    for warning in manifest.warnings:
        print(f"memplace-agent: {warning}", file=sys.stderr)
    names = ", ".join(each.name for each in manifest.placements)
    found = [p for p in manifest.placements if options.placement in ("", p.name)]
    if not manifest.placements:
        raise CommandFailed(Exit.USAGE, f"{options.file}: there is no MemoryPlacement in it")
    if not found:
        problem = f"no MemoryPlacement is called {options.placement}; there are: {names}"
        raise CommandFailed(Exit.USAGE, f"{options.file}: {problem}")
    if len(found) > 1:
        problem = f"it has several MemoryPlacements ({names}): choose with --placement NAME"
        raise CommandFailed(Exit.USAGE, f"{options.file}: {problem}")
    return found[0], manifest.tiers
