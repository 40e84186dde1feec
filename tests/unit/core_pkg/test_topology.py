# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import MemoryTier, NamespaceLimit, TierSpec
from memplace.numa import NumaNode
from memplace.topology import resolve_tiers, resolve_verdicts, tier_by_node
from msgspec import UNSET

GIB = 1 << 30


def numa(id_, *, cpus=(), tier=None, size=GIB):
    return NumaNode(id_, frozenset(cpus), size, tier)


def memory_tier(name, *numa_nodes, nodes=UNSET, labels=UNSET):
    spec = TierSpec(numa_nodes=numa_nodes, node_names=nodes, node_selector=labels)
    return MemoryTier(uid=name, name=name, generation=1, spec=spec)


DRAM = numa(0, cpus={0, 1}, tier=4)

numa_nodes = st.lists(
    st.builds(
        NumaNode,
        st.integers(0, 9),
        st.frozensets(st.integers(0, 3), max_size=1),
        st.sampled_from([0, GIB]),
        st.none() | st.integers(0, 6),
    ),
    unique_by=lambda node: node.id,
)
tiers = st.lists(
    st.builds(
        lambda name, numa_nodes, nodes: memory_tier(name, *numa_nodes, nodes=nodes),
        st.sampled_from(["a", "b", "dram", "cxl"]),
        st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
        st.sampled_from([UNSET, ("n",), ("other",), ("other", "n")]),
    ),
    unique_by=lambda tier: tier.name,
)


@given(numa_nodes, tiers, st.randoms())
def test_tiers_are_disjoint_populated_and_independent_of_order(nodes, tiers, random):
    result = resolve_tiers(nodes, tiers, "n")
    members = [node for group in result.values() for node in group]
    assert len(members) == len(set(members))
    assert set(members) <= {node.id for node in nodes if node.total_bytes}
    assert all(result.values())
    assert resolve_tiers(nodes, random.sample(tiers, len(tiers)), "n") == result
    assert tier_by_node(result) == {n: name for name, ns in result.items() for n in ns}


@given(numa_nodes, tiers)
def test_what_a_memory_tier_lists_is_never_in_a_default_tier(nodes, tiers):
    result = tier_by_node(resolve_tiers(nodes, tiers, "n"))
    for node in nodes:
        meant = {
            t.name
            for t in tiers
            if node.id in t.spec.numa_nodes
            and ("n" in (t.spec.node_names or ()) or (t.spec.node_names is UNSET and not node.cpus))
        }
        if meant and node.total_bytes:
            assert result[node.id] in meant


def test_nodes_with_cpus_are_dram_whatever_the_kernel_says():
    nodes = [DRAM, numa(1, cpus={2}, tier=9), numa(2, cpus={3})]
    assert resolve_tiers(nodes, [], "n") == {"dram": {0, 1, 2}}


def test_slower_is_cxl_faster_is_hbm():
    nodes = [DRAM, numa(1, tier=5), numa(2, tier=3)]
    assert resolve_tiers(nodes, [], "n") == {"cxl": {1}, "dram": {0}, "hbm": {2}}


def test_the_fastest_dram_node_is_the_measure():
    nodes = [numa(0, cpus={0}, tier=6), numa(1, cpus={1}, tier=4), numa(2, tier=5)]
    assert resolve_tiers(nodes, [], "n")["cxl"] == {2}


def test_unknown_to_the_kernel_or_like_dram_is_no_tier():
    nodes = [DRAM, numa(1), numa(2, tier=4)]
    assert resolve_tiers(nodes, [], "n") == {"dram": {0}}


def test_without_a_kernel_tier_of_dram_nothing_can_be_compared():
    assert resolve_tiers([numa(0, cpus={0}), numa(1, tier=5)], [], "n") == {"dram": {0}}


def test_memoryless_nodes_are_in_no_tier():
    nodes = [DRAM, numa(1, cpus={2}, size=0), numa(2, tier=5, size=0)]
    assert resolve_tiers(nodes, [memory_tier("far", 2)], "n") == {"dram": {0}}


def test_a_memory_tier_overrides_the_topology():
    nodes = [DRAM, numa(1, tier=5), numa(2)]
    assert resolve_tiers(nodes, [memory_tier("gpu", 2, 1)], "n") == {"dram": {0}, "gpu": {1, 2}}


def test_a_memory_tier_may_add_to_a_default_tier():
    assert resolve_tiers([DRAM, numa(2)], [memory_tier("cxl", 2)], "n")["cxl"] == {2}


def test_a_memory_tier_of_other_nodes_does_not_count():
    assert resolve_tiers([DRAM], [memory_tier("a", 0, nodes=("m",))], "n") == {"dram": {0}}


def test_named_nodes_beat_all_nodes_then_the_first_name_wins():
    a, b, c = memory_tier("a", 2), memory_tier("b", 2, nodes=("n",)), memory_tier("c", 2)
    assert resolve_tiers([numa(2)], [c, a, b], "n") == {"b": {2}}
    assert resolve_tiers([numa(2)], [c, a], "n") == {"a": {2}}


def test_a_memory_tier_may_be_of_nodes_with_labels():
    """Pools grow and shrink, and nobody lists their nodes."""
    far = memory_tier("far", 0, 2, labels={"pool": "cxl"})
    mine = {"pool": "cxl", "zone": "1"}
    assert resolve_tiers([DRAM, numa(2)], [far], "n", mine) == {"far": {0, 2}}
    for labels in ({}, {"pool": "dram"}, {"zone": "cxl"}):
        assert resolve_tiers([DRAM, numa(2)], [far], "n", labels) == {"dram": {0}}


def test_named_nodes_beat_labels_and_labels_beat_all_nodes():
    all_, named = memory_tier("a", 2), memory_tier("c", 2, nodes=("n",))
    chosen = memory_tier("b", 2, labels={"pool": "cxl"})
    mine = {"pool": "cxl"}
    assert resolve_tiers([numa(2)], [all_, chosen, named], "n", mine) == {"c": {2}}
    assert resolve_tiers([numa(2)], [all_, chosen], "n", mine) == {"b": {2}}
    assert resolve_tiers([numa(2)], [all_, chosen], "n") == {"a": {2}}


def test_a_memory_tier_for_all_nodes_says_nothing_of_numa_nodes_with_cpus():
    """Number 1 is an expander on some machines of a fleet, and a socket on others."""
    expander, socket = [DRAM, numa(1)], [DRAM, numa(1, cpus={2})]
    far = memory_tier("far", 1)
    assert resolve_tiers(expander, [far], "n") == {"dram": {0}, "far": {1}}
    assert resolve_tiers(socket, [far], "n") == {"dram": {0, 1}}
    why = resolve_verdicts(socket, [far], "n")[1].why
    assert why.startswith("it has CPUs; MemoryTier far") and "nodeNames" in why


def test_cpus_that_are_offline_count_as_cpus():
    asleep = NumaNode(1, frozenset(), GIB, None, has_cpus=True)
    assert resolve_tiers([DRAM, asleep], [memory_tier("far", 1)], "n") == {"dram": {0, 1}}


def test_who_names_the_machine_may_say_it_of_numa_nodes_with_cpus():
    socket = [DRAM, numa(1, cpus={2})]
    by_name, for_all = memory_tier("b", 1, nodes=("n",)), memory_tier("a", 1)
    assert resolve_tiers(socket, [for_all, by_name], "n") == {"dram": {0}, "b": {1}}
    assert resolve_verdicts(socket, [for_all, by_name], "n")[1].why == "MemoryTier b says so"


def test_a_memory_tier_that_says_what_is_so_is_not_complained_of():
    assert resolve_verdicts([DRAM], [memory_tier("dram", 0)], "n")[0].why == "it has CPUs"


# Per field of a MemoryTier a spec that differs in it from one for NUMA node 1 of all nodes, and
# what is in the tier then, of a node called n with the label pool: cxl.
CHANGED = {
    "numa_nodes": (TierSpec(numa_nodes=(2,)), {2}),
    "node_names": (TierSpec(numa_nodes=(1,), node_names=("other",)), set()),
    "description": (TierSpec(numa_nodes=(1,), description="slow"), {1}),
    "node_selector": (TierSpec(numa_nodes=(1,), node_selector={"pool": "hbm"}), set()),
    "namespace_limits": (TierSpec(namespace_limits=(NamespaceLimit("*", "25%"),)), set()),
}


def test_each_field_of_a_tier_is_tried():
    assert list(CHANGED) == list(TierSpec.__struct_fields__)


@pytest.mark.parametrize("field", CHANGED)
def test_a_field_of_a_tier_alone_decides_what_is_in_it(field):
    spec, expected = CHANGED[field]
    tier = MemoryTier(uid="far", name="far", generation=1, spec=spec)
    found = resolve_tiers([DRAM, numa(1), numa(2)], [tier], "n", {"pool": "cxl"})
    assert found.get("far", frozenset()) == expected
