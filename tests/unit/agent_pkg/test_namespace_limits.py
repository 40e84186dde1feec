# SPDX-License-Identifier: Apache-2.0
"""A namespace has no more of a tier than an admin granted, on each node, whatever it asks for."""

import shutil

import pytest
from memplace.api.objects import parse_tier
from memplace.errors import KernelWithoutProcessMbind

from tests.support.agent.build import HEAP_RULE
from tests.support.agent.machine import HEAP, MIB
from tests.support.agent.mappings import Vma
from tests.support.agent.shown import charge
from tests.unit.agent_pkg.test_birth import CXL_BOTH
from tests.unit.agent_pkg.test_shared import buffers, pages_of, rules
from tests.unit.agent_pkg.test_to_come import future, plain

A, B = "a" * 64, "b" * 64
ONE, TWO = ("mp", "p", "c0"), ("mp", "p", "c1")


def limits(*entries, name="cxl", **spec):
    listed = [{"namespace": ns, "perNode": size} for ns, size in entries]
    spec = {"namespaceLimits": listed, **spec}
    made = {"generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return parse_tier({"metadata": {"name": name, "uid": "t", **made}, "spec": spec})


def two(node, kit, first=1, second=1):
    """Two containers of one pod, with so many MiB each."""
    for pid, container, size in ((100, A, first), (200, B, second)):
        heap = Vma(HEAP, HEAP + size * MIB, "[heap]", pages={0: size * 256})
        node.machine.start(pid, container, heap)


def on_cxl(node, pid):
    return node.machine.pages(pid, HEAP).get(1, 0) * 4096 // MIB


def test_within_its_limit_all_is_placed(node, kit):
    two(node, kit)
    found = node.full(kit.placement(), pods=[kit.pod(ids="ab")], tiers=(limits(("ns", "3Mi")),))
    assert {found[ONE].state, found[TWO].state} == {"Placed"}
    assert (on_cxl(node, 100), on_cxl(node, 200)) == (1, 1)
    assert plain(future(node)) == CXL_BOTH


def test_who_does_not_fit_gets_nothing_and_is_told_why(node, kit):
    two(node, kit, 2, 2)
    found = node.full(kit.placement(), pods=[kit.pod(ids="ab")], tiers=(limits(("ns", "3Mi")),))
    # Of one pod the container whose name is first; nothing of the other was ever moved.
    assert found[ONE].state == "Placed"
    assert (found[TWO].state, found[TWO].reason) == ("Failed", "NamespaceLimit")
    assert "rule heap: namespace ns may have 3Mi of tier cxl" in found[TWO].message
    assert "what is there stays" in found[TWO].message
    assert (on_cxl(node, 100), on_cxl(node, 200)) == (2, 0)
    assert node.machine.policies(200)["[heap]"] is None and not future(node, 200)
    assert not any(each.container == B for each in node.claims)
    value = node.metrics.namespace_limited.labels("cxl")._value.get()
    assert value == 1


def test_priority_comes_first_and_then_age(node, kit):
    two(node, kit, 2, 2)
    first = kit.placement("z", containers=["c1"], priority=1, created="2026-02-01T00:00:00Z")
    second = kit.placement("a", containers=["c0"])
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", "3Mi")),)
    found = node.full(second, first, pods=pods, tiers=tiers)
    assert found["z", "p", "c1"].state == "Placed"
    assert found["a", "p", "c0"].reason == "NamespaceLimit"
    assert (on_cxl(node, 100), on_cxl(node, 200)) == (0, 2)


def test_a_share_is_one_of_the_tier_on_the_node(node, kit):
    two(node, kit)
    node.machine.set_total(1, 64 << 10)
    tiers = (limits(("*", "2%")),)  # 1.28 MiB
    found = node.full(kit.placement(), pods=[kit.pod(ids="ab")], tiers=tiers)
    assert found[ONE].state == "Placed"
    assert found[TWO].reason == "NamespaceLimit"
    assert "namespace ns may have 2% (1.3Mi on this node) of tier cxl" in found[TWO].message


def test_each_namespace_has_its_own(node, kit):
    for pid, container, pod in ((100, A, "uid_p"), (200, B, "uid_q")):
        heap = Vma(HEAP, HEAP + 2 * MIB, "[heap]", pages={0: 512})
        node.machine.start(pid, container, heap, pod=pod)
    pods = [kit.pod(its_labels={}), kit.pod("q", "b", namespace="other", its_labels={})]
    tiers = (limits(("ns", "1Mi"), ("*", "3Mi")),)
    found = node.full(kit.cluster_placement(), pods=pods, tiers=tiers)
    assert found["cmp", "p", "c0"].reason == "NamespaceLimit"
    assert found["cmp", "q", "c0"].state == "Placed"


def test_what_is_born_beyond_the_limit_ends_the_default_and_the_policies(node, kit):
    two(node, kit)
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", "4Mi")),)
    node.full(kit.placement(rules=[HEAP_RULE]), pods=pods, tiers=tiers)
    node.machine.born(100, kit.anon(0x50000000, 3 * MIB))
    found = node.run(60)
    assert {found[ONE].reason, found[TWO].reason} == {"NamespaceLimit"}
    assert not future(node) and not future(node, 200)
    assert not {*node.machine.policies(100).values()} - {None}
    # Nothing moves back, and nothing new is placed.
    assert on_cxl(node, 100) == 1 and node.machine.pages(100, 0x50000000) == {1: 768}
    node.machine.map(100, kit.anon(0x60000000))
    node.run(60)
    assert node.machine.pages(100, 0x60000000) == {0: 256}
    assert "NamespaceLimit" in found[ONE].new_memory


def test_who_is_at_the_edge_does_not_come_and_go(node, kit):
    two(node, kit)
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", "32Mi")),)
    node.full(kit.placement(rules=[HEAP_RULE]), pods=pods, tiers=tiers)
    edge = 0x50000000
    node.machine.born(100, kit.anon(edge, 31 * MIB))
    assert node.run(60)[ONE].reason == "NamespaceLimit"
    calls = len(node.machine.futures)
    for size in (29, 30, 29, 31, 29):  # with 2 MiB of heaps: below, at and above the limit
        node.machine.unmap(100, edge)
        node.machine.map(100, kit.anon(edge, size * MIB, pages={1: size * 256}))
        assert node.run(60)[ONE].reason == "NamespaceLimit"
    assert len(node.machine.futures) == calls
    node.machine.unmap(100, edge)
    node.machine.map(100, kit.anon(edge, 27 * MIB, pages={1: 27 * 256}))
    assert node.run(60)[ONE].state == "Placed"
    assert plain(future(node)) == CXL_BOTH


def test_a_lower_limit_moves_nothing_back_and_a_higher_one_goes_on(node, kit):
    two(node, kit, 2, 2)
    pods = [kit.pod(ids="ab")]
    node.full(kit.placement(), pods=pods, tiers=(limits(("ns", "4Mi")),))
    node.full(kit.placement(), pods=pods, tiers=(limits(("ns", "3Mi")),))
    found = node.run(60)
    assert {found[ONE].reason, found[TWO].reason} == {"NamespaceLimit"}
    assert (on_cxl(node, 100), on_cxl(node, 200)) == (2, 2)
    assert node.machine.policies(200)["[heap]"] is None
    found = node.full(kit.placement(), pods=pods, tiers=(limits(("ns", "5Mi")),))
    assert {found[ONE].state, found[TWO].state} == {"Placed"}
    assert node.machine.policies(200)["[heap]"] == kit.CXL
    found = node.full(kit.placement(), pods=pods)
    assert {found[ONE].state, found[TWO].state} == {"Placed"}


def test_what_a_placement_leaves_behind_counts_until_it_is_gone(node, kit):
    two(node, kit, 2, 2)
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", "3Mi")),)
    first = kit.placement("a", containers=["c0"])
    assert node.full(first, pods=pods, tiers=tiers)["a", "p", "c0"].state == "Placed"
    stat = node.machine.cgroup(A) / "memory.numa_stat"
    stat.write_text(f"anon N0=0 N1={2 * MIB}\nfile N0=0 N1={5 * MIB}\nkernel_stack N1=9\n")
    second = kit.placement("b", containers=["c1"])
    # The tenant deletes the placement; its pages stay. That makes no room.
    found = node.full(second, pods=pods, tiers=tiers)
    assert found["b", "p", "c1"].reason == "NamespaceLimit"
    assert node.run(120)["b", "p", "c1"].reason == "NamespaceLimit"
    stat.write_text("anon N0=2097152 N1=0\n")
    assert node.run(60)["b", "p", "c1"].state == "Placed"


def test_a_fork_to_save_takes_nothing_of_the_limit(node, kit):
    """A program of another user than root, too large for a walk: Redis as images have it."""
    node.machine.hides_pagemaps = True
    values = kit.anon(0x40000000, 320 * MIB, pages={0: 320 * 256})
    node.machine.start(100, A, values)
    charge(node.machine, A)
    placement, tiers = kit.placement(), (limits(("ns", "400Mi")),)
    assert node.full(placement, tiers=tiers)[ONE].state == "Placed"
    node.machine.fork(100, 101, A)
    charge(node.machine, A)
    assert {node.run(5)[ONE].state for _ in range(20)} == {"Placed"}
    assert node.machine.policies(100)["0x40000000"] == kit.CXL


def test_an_edit_of_the_rules_makes_no_room_either(node, kit):
    two(node, kit, 2, 2)
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", "3Mi")),)
    node.full(kit.placement("a", containers=["c0"]), pods=pods, tiers=tiers)
    (node.machine.cgroup(A) / "memory.numa_stat").write_text(f"anon N0=0 N1={2 * MIB}\n")
    stack = {
        "name": "s",
        "regions": [{"type": "Stack"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    edited = kit.placement("a", containers=["c0"], rules=[stack])
    second = kit.placement("b", containers=["c1"])
    found = node.full(edited, second, pods=pods, tiers=tiers, seconds=60)
    assert found["b", "p", "c1"].reason == "NamespaceLimit"
    assert on_cxl(node, 200) == 0


@pytest.mark.parametrize("now", ["3Mi", "4Mi"])
def test_an_agent_that_begins_asks_first_what_is_there(node, kit, now):
    two(node, kit, 2, 2)
    pods, placement = [kit.pod(ids="ab")], kit.placement(rules=[HEAP_RULE])
    node.full(placement, pods=pods, tiers=(limits(("ns", "4Mi")),))
    node.full(placement, pods=pods, tiers=(limits(("ns", now)),))
    seen = []
    node.machine.on_call = node.machine.on_future = lambda: seen.append(1)
    node.restart()
    # The first that it looks at would fit, had it not looked at the other.
    node.full(placement, pods=pods, tiers=(limits(("ns", now)),))
    assert not seen
    assert bool(future(node)) is (now == "4Mi")


@pytest.mark.parametrize("nothing", ["0", "0%"])
def test_nothing_is_nothing_from_the_first_page(node, kit, nothing):
    two(node, kit)
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", nothing)),)
    found = node.full(kit.placement(rules=[HEAP_RULE]), pods=pods, tiers=tiers)
    assert {found[ONE].reason, found[TWO].reason} == {"NamespaceLimit"}
    assert not node.machine.calls and not node.machine.futures and not node.claims


def test_containers_to_come_get_no_default_while_there_is_no_room(node, kit):
    told = []
    two(node, kit, 2, 2)
    parts = node.reconciler._parts
    object.__setattr__(parts, "publish", lambda table, _store: told.append(table))
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", "3Mi")),)
    placement = kit.placement(rules=[HEAP_RULE])
    node.full(placement, pods=pods, tiers=tiers)
    assert told[0] and not told[-1]
    node.full(placement, pods=pods, tiers=(limits(("ns", "6Mi")),))
    assert told[-1]


def test_where_pages_can_only_be_moved_they_are_not(node, kit):
    node.unsupported = KernelWithoutProcessMbind("none")
    node.start()
    two(node, kit, 2, 2)
    placement = kit.placement(onUnsupported="BestEffort")
    found = node.full(placement, pods=[kit.pod(ids="ab")], tiers=(limits(("ns", "3Mi")),))
    assert found[ONE].state == "PlacedBestEffort"
    assert found[TWO].reason == "NamespaceLimit"
    assert (on_cxl(node, 100), on_cxl(node, 200)) == (2, 0)


def test_a_limit_holds_where_its_tier_covers_the_node(node, kit):
    two(node, kit, 2, 2)
    elsewhere = limits(("ns", "1Mi"), nodeNames=["n2"])
    found = node.full(kit.placement(), pods=[kit.pod(ids="ab")], tiers=(elsewhere,))
    assert {found[ONE].state, found[TWO].state} == {"Placed"}


def test_who_only_tells_takes_no_room(node, kit):
    # What is there is there by the kernel's doing, or the program's.
    node.machine.start(100, A, Vma(HEAP, HEAP + 2 * MIB, "[heap]", pages={1: 512}))
    node.machine.start(200, B, Vma(HEAP, HEAP + 2 * MIB, "[heap]", pages={0: 512}))
    dry = kit.placement("a", containers=["c0"], mode="DryRun")
    other = kit.placement("b", containers=["c1"])
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", "3Mi")),)
    found = node.full(dry, other, pods=pods, tiers=tiers)
    assert found["b", "p", "c1"].state == "Placed"
    # It would, if it was meant: then the namespace has more than it may have.
    assert found["a", "p", "c0"].state == "DryRun"
    assert found["a", "p", "c0"].reason == "NamespaceLimit"


def test_without_limits_nothing_is_looked_at_twice(started, kit):
    seen = []
    real = started.machine.read_vmas
    started.machine.read_vmas = lambda *given: seen.append(1) or real(*given)
    started.start()
    started.full(kit.placement(), seconds=5)
    without = len(seen)
    seen.clear()
    started.restart()
    started.full(kit.placement(), seconds=5, tiers=(limits(("ns", "9Mi"), name="far"),))
    assert len(seen) <= without


def test_a_container_that_nobody_can_tell_about_keeps_what_it_has(node, kit):
    two(node, kit, 2, 2)
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", "3Mi")),)
    first, second = kit.placement("a", containers=["c0"]), kit.placement("b", containers=["c1"])
    node.full(first, pods=pods, tiers=tiers)
    found = node.full(first, second, pods=pods, tiers=tiers, held=frozenset({A}))
    assert found["b", "p", "c1"].reason == "NamespaceLimit"
    assert node.machine.policies(100)["[heap]"] == kit.CXL


def test_what_is_left_ends_with_its_container_though_nobody_tells(node, kit):
    two(node, kit, 2, 2)
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", "3Mi")),)
    node.full(kit.placement("a", containers=["c0"]), pods=pods, tiers=tiers)
    second = kit.placement("b", containers=["c1"])
    assert node.full(second, pods=pods, tiers=tiers)["b", "p", "c1"].reason == "NamespaceLimit"
    # Pods that follow nothing are not heard of when they change.
    node.machine.end(100)
    shutil.rmtree(node.machine.cgroup(A))
    assert node.run(60)["b", "p", "c1"].state == "Placed"


def sharing(node, kit, size):
    """Two containers that map one object of 64 MiB, with a limit."""
    node.machine.start(100, A, buffers())
    node.machine.start(200, B, buffers())
    given = {"pods": [kit.pod(ids="ab")], "tiers": (limits(("ns", size)),), "seconds": 90}
    return node.full(kit.placement(rules=rules()), **given)


def test_memory_that_containers_share_counts_once(node, kit):
    found = sharing(node, kit, "70Mi")
    assert {found[ONE].state, found[TWO].state} == {"Placed"}
    assert pages_of(node, 200) == {1: 64 * 256}


def test_an_object_beyond_the_limit_loses_its_policy(node, kit):
    assert sharing(node, kit, "70Mi")[ONE].state == "Placed"
    pods, placement = [kit.pod(ids="ab")], kit.placement(rules=rules())
    tiers = (limits(("ns", "60Mi")),)
    found = node.full(placement, pods=pods, tiers=tiers, seconds=120)
    assert {found[ONE].reason, found[TWO].reason} == {"NamespaceLimit"}
    assert not {*node.machine.policies(100).values()} - {None}
    assert pages_of(node, 200) == {1: 64 * 256}
    calls = len(node.machine.calls)
    node.run(300)
    assert len(node.machine.calls) == calls


def test_who_is_refused_takes_no_policy_from_an_object_that_another_may_have(node, kit):
    node.machine.start(100, A, buffers())
    node.machine.start(200, B, Vma(HEAP, HEAP + 16 * MIB, "[heap]", pages={0: 4096}), buffers())
    placement = kit.placement(rules=[*rules(), HEAP_RULE])
    given = {"pods": [kit.pod(ids="ab")], "tiers": (limits(("ns", "70Mi")),), "seconds": 120}
    found = node.full(placement, **given)
    assert found[ONE].state == "Placed" and found[TWO].reason == "NamespaceLimit"
    assert kit.CXL in node.machine.policies(100).values()
    calls = len(node.machine.calls)
    assert node.run(300)[ONE].state == "Placed"
    assert kit.CXL in node.machine.policies(100).values()
    assert len(node.machine.calls) == calls
