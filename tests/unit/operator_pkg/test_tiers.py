# SPDX-License-Identifier: Apache-2.0
"""What the status of a MemoryTier says, by what agents make of all MemoryTiers.

The reports are what the core makes of the same MemoryTiers for machines of this fleet.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from memplace.api.conditions import find_condition
from memplace.api.v1alpha1 import MemoryTier, NamespaceLimit, NumaNodeStatus, TierSpec, TierStatus
from memplace.nodes import format_nodes
from memplace.numa import NumaNode
from memplace.topology import resolve_verdicts
from memplace_operator.tiers import Machines, tier_status

from .worlds import NOW

GIB = 1 << 30
EXPANDER = (
    NumaNode(id=0, cpus=frozenset(range(8)), total_bytes=64 * GIB),
    NumaNode(id=1, cpus=frozenset(), total_bytes=32 * GIB),
)
TWO_SOCKETS = (
    NumaNode(id=0, cpus=frozenset(range(8)), total_bytes=64 * GIB),
    NumaNode(id=1, cpus=frozenset(range(8, 16)), total_bytes=64 * GIB),
)
FLEET = {"exp-1": EXPANDER, "exp-2": EXPANDER, "old-1": TWO_SOCKETS}
LABELS = {"exp-1": {"memory": "cxl"}, "exp-2": {"memory": "cxl"}, "old-1": {}}


def tier(name: str = "far", *numbers: int, generation: int = 1, **spec: Any) -> MemoryTier:
    made = TierSpec(numa_nodes=numbers or (1,), **spec)
    return MemoryTier(uid=f"uid-{name}", name=name, generation=generation, spec=made)


def reports(*tiers: MemoryTier, fleet: Mapping[str, tuple[NumaNode, ...]] = FLEET) -> Machines:
    found = {}
    for machine, numa_nodes in fleet.items():
        verdicts = resolve_verdicts(numa_nodes, tiers, machine, LABELS.get(machine, {}))
        found[machine] = tuple(
            NumaNodeStatus(
                id=numa.id,
                cpus=format_nodes(numa.cpus or ()),
                total_bytes=numa.total_bytes,
                tier=verdicts[numa.id].tier,
                evidence=verdicts[numa.id].why,
            )
            for numa in numa_nodes
        )
    return found


def said(of: MemoryTier, *others: MemoryTier, machines: Machines | None = None) -> TierStatus:
    tiers = (of, *others)
    return tier_status(of, tiers, machines or reports(*tiers), TierStatus(), NOW)


def ready(status: TierStatus) -> tuple[str, str, str]:
    found = find_condition(status.conditions, "Ready")
    assert found is not None
    return found.status, found.reason, found.message


def test_where_it_is_in_force_is_counted() -> None:
    status = said(tier(node_names=("exp-1", "exp-2")))
    assert (status.nodes, status.capacity_bytes) == (2, 64 * GIB)
    assert status.summary == "64.0 GiB on 2 nodes"
    assert ready(status) == ("True", "InForce", "64.0 GiB on 2 nodes")


def test_the_generation_that_was_looked_at_is_said() -> None:
    status = said(tier(generation=7))
    assert status.observed_generation == 7
    assert status.conditions[0].observed_generation == 7


def test_a_socket_that_has_the_number_is_said() -> None:
    found = ready(said(tier()))
    assert found[:2] == ("True", "PartlyInForce")
    assert found[2] == (
        "64.0 GiB on 2 nodes; "
        "on old-1 NUMA node 1 has CPUs, and only nodeNames or nodeSelector can mean it"
    )


@pytest.mark.parametrize(
    "winner", [{"node_names": ("exp-1",)}, {"node_selector": {"memory": "cxl"}}]
)
def test_another_that_has_the_numa_node_is_named(winner: dict[str, Any]) -> None:
    general, special = tier("a-general"), tier("special", **winner)
    found = ready(said(general, special))
    assert "MemoryTier special has NUMA node 1" in found[2]
    assert "on exp-1" in found[2]
    assert ready(said(special, general))[1] == "InForce"


def test_the_first_by_name_of_equals_has_it() -> None:
    first, second = tier("a", node_names=("exp-1",)), tier("b", node_names=("exp-1",))
    assert ready(said(first, second))[1] == "InForce"
    assert ready(said(second, first)) == (
        "False",
        "NotInForce",
        "on no node; on exp-1 MemoryTier a has NUMA node 1",
    )


def test_a_node_without_the_memory_is_named() -> None:
    found = ready(said(tier("far", 1, 5, node_names=("exp-1", "gone"))))
    assert found == (
        "True",
        "PartlyInForce",
        "32.0 GiB on 1 node; on gone no agent reports; on exp-1 there is no memory in NUMA node 5",
    )


def test_a_fleet_in_which_some_have_no_such_number_is_fine() -> None:
    fleet = {"exp-1": EXPANDER, "small": EXPANDER[:1]}
    alone = tier()
    assert ready(said(alone, machines=reports(alone, fleet=fleet)))[1] == "InForce"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, "no node that reports has memory in NUMA nodes 8-9"),
        ({"node_selector": {"memory": "hbm"}}, "no node with the labels of nodeSelector"),
    ],
)
def test_one_that_no_node_has_says_where_to_look(spec: dict[str, Any], says: str) -> None:
    state, reason, message = ready(said(tier("far", 8, 9, **spec)))
    assert (state, reason) == ("False", "NotInForce")
    assert says in message
    assert "kubectl get nodememories" in message


def test_what_agents_have_not_taken_yet_is_not_counted() -> None:
    found = ready(said(tier(node_names=("exp-1",)), machines=reports()))
    assert found == ("False", "NotInForce", "on no node; on exp-1 NUMA node 1 is not in it yet")


def test_what_the_hardware_shows_already_counts() -> None:
    """A MemoryTier of a built-in tier's name that says of CPUs' nodes what they are."""
    status = said(tier("dram", 0))
    assert (status.nodes, ready(status)[1]) == (3, "InForce")


def test_of_many_nodes_a_few_are_named() -> None:
    fleet = {f"old-{number}": TWO_SOCKETS for number in range(9)} | {"exp-1": EXPANDER}
    alone = tier()
    message = ready(said(alone, machines=reports(alone, fleet=fleet)))[2]
    assert "on old-0, old-1, old-2 and 6 more NUMA node 1 has CPUs" in message


def test_a_message_has_an_end() -> None:
    names = tuple(f"{'x' * 240}-{number}" for number in range(1024))
    status = said(tier("far", *range(64), node_names=names))
    assert len(status.conditions[0].message) <= 1024


def test_a_sum_that_a_liar_makes_fits_an_int64() -> None:
    lie = (NumaNodeStatus(id=1, total_bytes=2**63 - 1, evidence="MemoryTier far says so"),)
    assert said(tier(), machines={"a": lie, "b": lie}).capacity_bytes == 2**63 - 1


def test_the_time_of_a_condition_is_that_of_its_last_change() -> None:
    of = tier(node_names=("exp-1",))
    before = tier_status(of, [of], reports(of), TierStatus(), NOW)
    later = NOW + timedelta(minutes=5)
    assert tier_status(of, [of], reports(of), before, later) == before
    gone = tier_status(of, [of], {}, before, later)
    assert gone.conditions[0].last_transition_time == later
    assert msgspec.structs.replace(gone, conditions=()) != before


def test_one_that_only_limits_namespaces_is_in_force_where_the_tier_is() -> None:
    shown = NumaNodeStatus(id=1, total_bytes=32 * GIB, tier="cxl", evidence="a CXL region")
    machines = {"exp-1": (shown,), "exp-2": (shown,), "old-1": ()}

    def limiting(name: str = "cxl", **spec: Any) -> MemoryTier:
        limits = (NamespaceLimit("*", "25%"),)
        made = TierSpec(namespace_limits=limits, **spec)
        return MemoryTier(uid="u", name=name, generation=1, spec=made)

    found = said(limiting(), machines=machines)
    assert (found.nodes, found.capacity_bytes) == (2, 64 * GIB)
    assert ready(found) == ("True", "InForce", "64.0 GiB on 2 nodes")
    named = said(limiting(node_names=("exp-1", "old-1")), machines=machines)
    assert named.nodes == 1 and ready(named)[1] == "PartlyInForce"
    assert "on old-1 there is no memory in tier cxl" in ready(named)[2]
    nowhere = ready(said(limiting("hbm"), machines=machines))
    assert nowhere[:2] == ("False", "NotInForce")
    assert "no node that reports has memory in tier hbm, so nothing is limited" in nowhere[2]
