# SPDX-License-Identifier: Apache-2.0
"""From what was read, typed and written in a manifest to what is explained."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from functools import partial

import msgspec
from memplace.api.v1alpha1 import MemoryTier, Placement, TierSpec
from memplace.backends import Act, act_for, foreseen
from memplace.explain import MOST_REGIONS, Wish, explain
from memplace.explained import ProcessExplained
from memplace.kinds import Capability
from memplace.matching import Matcher
from memplace.policy import plan
from memplace.reasons import ABOUT_TIERS

from memplace_agent.backends.choice import Choice, choose
from memplace_agent.cli.errors import CommandFailed, Exit
from memplace_agent.cli.options import InspectOptions
from memplace_agent.cli.reading import Look
from memplace_agent.engine.lesser import PLANS
from memplace_agent.hostfs import HostFs
from memplace_agent.node.machine import Machine, read_machine
from memplace_agent.syscalls.features import probe
from memplace_agent.syscalls.moves import why_no_moves

_NOT_HERE = (
    "this kernel can set no policies, so an agent does here what onUnsupported says "
    "(memplace-agent machine tells what it can); the plan is that of a kernel with process_mbind()"
)
# Regions to show.
_LIMITS = {"table": 30, "wide": 200, "json": MOST_REGIONS}


def explained(
    look: Look,
    placement: Placement | None,
    machine: Machine,
    options: InspectOptions,
    can: Collection[Capability] = tuple(Capability),
    *,
    plans: Collection[Capability] = tuple(Capability),
) -> ProcessExplained:
    """Explain what was read, as far as it is to be shown.

    Args:
        look: What was read.
        placement: Whose rules are explained, too; None for no rules.
        machine: Its NUMA nodes and tiers.
        options: What is to be shown.
        can: What an agent can do here: that it is less than the plan is said beside it.
        plans: What the plan is made for.
    """
    facts = look.facts(dict(machine.tiers))
    limit = _LIMITS[options.output] if options.limit is None else options.limit
    wish = wish_of(look, placement, machine, plans) if placement else None
    found = explain(facts, wish, limit)
    if wish and Capability.POLICIES not in can:
        found = msgspec.structs.replace(found, notes=(*found.notes, _NOT_HERE))
    if any(rule.problem in ABOUT_TIERS for rule in found.rules):
        note = "--tier NAME=NODES says which NUMA nodes of this machine are a tier"
        found = msgspec.structs.replace(found, notes=(*found.notes, note))
    return found


def wish_of(
    look: Look,
    placement: Placement,
    machine: Machine,
    plans: Collection[Capability] = tuple(Capability),
) -> Wish:
    """Make the plan of an agent that can do so much: what the manifest asks for."""
    matcher = Matcher(placement.spec.rules)
    facts = look.facts(dict(machine.tiers))
    planned = plan(
        matcher,
        tiers=machine.tiers,
        allowed=facts.allowed,
        regions=look.regions,
        known_tiers=machine.known_tiers,
        process=look.survey.name,
        ours=facts.ours,
        weights=machine.weights,
    )
    act = act_for(placement.spec, plans)
    # What an agent would do again and again, this command does once.
    note = "" if act is Act.MOVE else PLANS.get(act, "")
    return Wish(placement.name, matcher, foreseen(act, planned), note)


def choice_of(host: HostFs) -> Choice:
    """Return the backend that an agent would have on this machine, with the rights of one."""
    return choose(probe(host, try_move=partial(why_no_moves, move_all=False), missing=()))


def machine_of(
    host: HostFs,
    tiers: Sequence[MemoryTier],
    typed_tiers: Sequence[tuple[str, tuple[int, ...]]],
) -> Machine:
    """Read NUMA nodes and tiers; what was typed wins over all else.

    Raises:
        CommandFailed: A tier names a NUMA node that is not there.
    """
    here = os.uname().nodename
    typed = tuple(
        MemoryTier(
            uid="", name=name, generation=0, spec=TierSpec(numa_nodes=nodes, node_names=(here,))
        )
        for name, nodes in typed_tiers
    )
    machine = read_machine(host, (*typed, *tiers), here)
    there = {node.id for node in machine.numa_nodes if node.total_bytes}
    for name, nodes in typed_tiers:
        missing = sorted(set(nodes) - there)
        if missing:
            known = ", ".join(map(str, sorted(there))) or "none"
            raise CommandFailed(
                Exit.USAGE,
                f"--tier {name}: this machine has no memory on NUMA node {missing[0]}; "
                f"it has NUMA nodes {known}",
            )
    return machine
