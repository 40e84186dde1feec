# SPDX-License-Identifier: Apache-2.0
"""onDelete: what becomes of policies and pages when their placement is deleted."""

import json

import pytest
from memplace.kinds import OnDelete
from memplace_agent.procfs.query import Way

from tests.support.agent.build import HEAP_RULE
from tests.unit.agent_pkg.test_shared import BUFFERS, buffers, rules

A, B = "a" * 64, "b" * 64
ONE = ("mp", "p", "c0")
BIG, SECOND = 0x100000000, 0x20000000
ON_CXL, IN_DRAM = {1: 256}, {0: 256}


def node_of(node, start):
    return {number for number, pages in node.machine.pages(100, start).items() if pages}


def policies(node, pid=100):
    return set(node.machine.policies(pid).values())


@pytest.fixture
def pages(started, kit):
    """Two MiB on cxl, by a placement that wants pages to go back."""
    assert started.full(kit.placement(onDelete="RestorePages"))[ONE].state == "Placed"
    assert started.machine.pages(100, kit.HEAP) == ON_CXL
    return started


@pytest.fixture
def left(started, kit):
    """The same, by a placement that was deleted, and wanted it all to stay."""
    started.full(kit.placement(onDelete="Leave"))
    started.full(seconds=60)
    return started


# --- RestorePolicy ---


@pytest.mark.parametrize("spec", [{}, {"onDelete": "RestorePolicy"}])
def test_by_default_policies_come_back_and_pages_stay(started, kit, spec):
    started.full(kit.placement(**spec))
    started.full()
    assert policies(started) == {None} and not started.claims
    assert started.machine.pages(100, kit.HEAP) == ON_CXL


# --- RestorePages ---


def test_pages_go_back_to_nodes_with_cpus_where_no_policy_names_any(pages, kit):
    pages.full(seconds=30)
    assert policies(pages) == {None} and not pages.claims
    assert pages.machine.pages(100, kit.HEAP) == IN_DRAM
    assert node_of(pages, SECOND) == {0}


def test_pages_go_back_to_where_the_programs_own_policy_wants_them(node, kit):
    node.machine.add_node(2, cpus="2-3", tier=3)
    node.machine.allowed = frozenset({0, 1, 2})
    own = kit.BIND.__class__(kit.BIND.mode, frozenset({2}))
    node.machine.start(100, A, kit.heap(policy=own))
    node.full(kit.placement(rules=[kit.overriding()], onDelete="RestorePages"))
    assert node_of(node, kit.HEAP) == {1}
    node.full(seconds=30)
    assert node.machine.policies(100) == {"[heap]": own} and node_of(node, kit.HEAP) == {2}


def test_where_the_tasks_policy_names_nodes_pages_go_there(node, kit):
    node.machine.add_node(2, cpus="2-3", tier=3)
    node.machine.allowed = frozenset({0, 1, 2})
    tasks = kit.BIND.__class__(kit.BIND.mode, frozenset({2}))
    node.machine.start(100, A, kit.heap(), task_policy=tasks)
    node.full(kit.placement(onDelete="RestorePages"))
    assert node_of(node, kit.HEAP) == {1}
    node.full(seconds=30)
    assert policies(node) == {None} and node_of(node, kit.HEAP) == {2}


def test_what_memplace_never_touched_stays(pages, kit):
    small = kit.Vma(0x60000000, 0x60004000, pages={1: 4})
    pages.machine.map(100, small)
    pages.full(seconds=30)
    assert pages.machine.pages(100, small.start) == {1: 4}


def test_it_is_paced_and_says_how_far_it_is(node, kit):
    node.bandwidth = 64 << 20
    node.restart()
    node.machine.start(100, A, kit.heap(), kit.anon(BIG, 1 << 30))
    node.full(kit.placement(onDelete="RestorePages"), seconds=60)
    assert node_of(node, BIG) == {1}
    node.full(seconds=8)
    assert node_of(node, BIG) == {0, 1} and node.claims
    assert "pages are moved back first" in node.said["mp"].message
    node.run(30)
    assert node_of(node, BIG) == {0} and policies(node) == {None} and not node.claims
    assert not node.said


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_another_agent_knows_of_it(node, kit, when):
    node.bandwidth = 64 << 20
    node.restart()
    node.machine.start(100, A, kit.heap(), kit.anon(BIG, 1 << 30))
    node.full(kit.placement(onDelete="RestorePages"), seconds=60)
    if when == "meanwhile":
        node.full(seconds=8)
    node.restart()
    node.full(seconds=60)
    assert node_of(node, BIG) == {0} and policies(node) == {None} and not node.claims


def test_pages_that_do_not_move_keep_no_policy_from_coming_back(started, kit):
    stuck = kit.anon(0x60000000, stuck=False)
    started.machine.map(100, stuck)
    started.full(kit.placement(onDelete="RestorePages"))
    vmas = started.machine.processes[100].vmas
    at = next(i for i, v in enumerate(vmas) if v.start == 0x60000000)
    vmas[at] = vmas[at].__class__(**{**vars_of(vmas[at]), "stuck": True})
    started.full(seconds=300)
    assert started.claims and "pages are moved back first" in started.said["mp"].message
    started.run(600)
    assert policies(started) == {None} and not started.claims
    assert started.machine.pages(100, 0x60000000) == ON_CXL
    assert started.machine.pages(100, kit.HEAP) == IN_DRAM
    name = "memplace_agent_pages_not_returned_bytes_total"
    assert started.metrics.registry.get_sample_value(name) == kit.MIB


def vars_of(vma):
    return {name: getattr(vma, name) for name in vma.__dataclass_fields__}


def test_a_new_placement_takes_over_in_the_middle(node, kit):
    node.bandwidth = 64 << 20
    node.restart()
    node.machine.start(100, A, kit.heap(), kit.anon(BIG, 1 << 30))
    node.full(kit.placement(onDelete="RestorePages"), seconds=60)
    node.full(seconds=8)
    assert node_of(node, BIG) == {0, 1}
    found = node.full(kit.placement("new"), seconds=60)
    assert found["new", "p", "c0"].state == "Placed" and node_of(node, BIG) == {1}
    node.full(seconds=30)
    assert policies(node) == {None} and node_of(node, BIG) == {1} and not node.claims


def test_a_placement_that_is_back_after_all_goes_on(node, kit):
    """A list can lack it for a moment: of an etcd that was restored, say."""
    node.bandwidth = 64 << 20
    node.restart()
    node.machine.start(100, A, kit.heap(), kit.anon(BIG, 1 << 30))
    wanted = kit.placement(onDelete="RestorePages")
    node.full(wanted, seconds=60)
    node.full(seconds=8)
    assert node_of(node, BIG) == {0, 1}
    assert node.full(wanted, seconds=60)[ONE].state == "Placed" and node_of(node, BIG) == {1}
    node.full(seconds=60)
    assert node_of(node, BIG) == {0} and policies(node) == {None} and not node.claims


def test_moves_end_when_a_new_placement_wants_nothing_of_that_memory(node, kit):
    node.bandwidth = 64 << 20
    node.way = Way.MAPS  # policies can't be asked for: a move sets its own, whatever there is
    node.restart()
    node.machine.start(100, A, kit.heap(), kit.anon(BIG, 1 << 30))
    node.full(kit.placement(onDelete="RestorePages"), seconds=60)
    node.full(seconds=8)
    assert node_of(node, BIG) == {0, 1}
    node.full(kit.placement("new", rules=[kit.rule({"type": "Stack"}, "Bind", "dram")]), seconds=60)
    assert policies(node) == {None}


def test_mappings_to_come_and_forked_children_are_in_it(started, kit):
    started.full(kit.placement(rules=[HEAP_RULE], onDelete="RestorePages"))
    started.machine.born(100, kit.anon(0x60000000))
    assert node_of(started, 0x60000000) == {1}
    started.machine.fork(100, 101, A)
    started.full(seconds=60)
    assert started.machine.processes[100].future == started.machine.processes[101].future == {}
    assert policies(started) == policies(started, 101) == {None}
    assert started.machine.pages(100, 0x60000000) == started.machine.pages(101, 0x60000000)
    assert node_of(started, 0x60000000) == {0} and not started.claims


# --- Leave ---


def test_left_policies_and_pages_stay_for_as_long_as_the_container_lives(left, kit):
    assert policies(left) == {kit.CXL} and left.machine.pages(100, kit.HEAP) == ON_CXL
    made = len(left.machine.calls)
    left.restart()
    left.full(seconds=600)
    assert len(left.machine.calls) == made and policies(left) == {kit.CXL} and not left.said
    left.machine.end(100)
    left.full(pods=[], seconds=900)
    assert not left.claims


def test_a_later_placement_takes_over_what_was_left_and_gives_back_what_was_before(left, kit):
    dram = kit.placement("new", rules=[kit.rule({"type": "Heap"}, "Bind", "dram")])
    assert left.full(dram, seconds=30)["new", "p", "c0"].state == "Placed"
    assert {p.mode for p in policies(left)} == {"Bind"}
    left.full()
    assert policies(left) == {None} and not left.claims


def test_a_later_placement_that_wants_the_same_gives_it_back_as_its_own(left, kit):
    left.full(kit.placement("new"), seconds=30)
    left.restart()
    left.full()
    assert policies(left) == {None} and not left.claims


def test_a_later_dry_run_changes_nothing_of_what_was_left(left, kit):
    made = len(left.machine.calls)
    assert left.full(kit.placement("new", mode="DryRun"), seconds=60)["new", "p", "c0"].rules
    left.full(seconds=30)
    assert len(left.machine.calls) == made and policies(left) == {kit.CXL}


def test_the_last_word_counts_even_if_it_comes_with_the_deletion(started, kit):
    started.full(kit.placement())
    words = {"uid-mp": OnDelete.LEAVE}
    started.full(seconds=60, last_words=words)
    assert policies(started) == {kit.CXL}


def test_a_word_alone_begins_nothing_anew_and_is_on_disk_at_once(started, kit):
    started.full(kit.placement())
    made = len(started.machine.calls)
    found = started.full(kit.placement(onDelete="Leave"), seconds=0)
    assert found[ONE].state == "Placed" and len(started.machine.calls) == made
    kept = next(started.machine.host.journal.glob("a*.json"))
    assert json.loads(kept.read_text())["claim"]["on_delete"] == "Leave"
    started.full(kit.placement(), seconds=0)
    assert "on_delete" not in json.loads(kept.read_text())["claim"]


def test_shared_memory_is_left_and_taken_over_as_well(node, kit):
    node.machine.start(100, A, buffers())
    node.full(kit.placement(rules=rules(), onDelete="Leave"), seconds=60)
    before = node.machine.objects.ranges(BUFFERS)
    node.full(seconds=60)
    assert before and node.machine.objects.ranges(BUFFERS) == before
    found = node.full(kit.placement("new", rules=rules()), seconds=60)
    assert found["new", "p", "c0"].state == "Placed"
    node.full(seconds=60)
    assert node.machine.objects.ranges(BUFFERS) == [] and not node.claims


def test_shared_memory_that_was_left_is_forgotten_when_nobody_maps_it(node, kit):
    node.machine.start(100, A, kit.heap(), buffers())
    node.full(kit.placement(rules=rules(), onDelete="Leave"), seconds=60)
    node.full(seconds=60)
    assert [claim.is_left for claim in node.claims if claim.container.startswith("object")]
    node.machine.unmap(100, buffers().start)
    node.full(seconds=900)
    assert not [claim for claim in node.claims if claim.container.startswith("object")]


# --- a node that it is not about any more ---


@pytest.mark.parametrize("word", ["RestorePolicy", "Leave", "RestorePages"])
def test_where_the_nodes_labels_change_policies_come_back_and_pages_stay(started, kit, word):
    mine = kit.placement(onDelete=word, nodeSelector={"pool": "cxl"})
    started.full(mine)
    made = len(started.machine.calls)
    started.full(elsewhere=(mine,), seconds=8)
    assert len(started.machine.calls) == made, "a label that is put on again soon moves nothing"
    assert not started.said
    started.full(mine, seconds=20)
    assert len(started.machine.calls) == made
    started.full(elsewhere=(mine,), seconds=30)
    assert policies(started) == {None} and not started.claims
    assert started.machine.pages(100, kit.HEAP) == ON_CXL


def test_one_that_is_paused_keeps_what_it_has_on_such_a_node(started, kit):
    started.full(kit.placement())
    started.full(elsewhere=(kit.placement(paused=True),), seconds=60)
    assert policies(started) == {kit.CXL}


# --- what is no deletion, and whose word it is ---


@pytest.mark.parametrize("word", ["Leave", "RestorePages"])
@pytest.mark.parametrize("spec", [{"mode": "DryRun"}, {"selector": {"matchLabels": {"app": "y"}}}])
def test_one_that_is_still_there_gives_policies_back_whatever_it_says(started, kit, word, spec):
    started.full(kit.placement(onDelete=word))
    started.full(kit.placement(onDelete=word, **spec), seconds=60)
    assert policies(started) == {None} and not started.claims
    assert started.machine.pages(100, kit.HEAP) == ON_CXL


@pytest.mark.parametrize("word", ["Leave", "RestorePages"])
def test_a_rule_that_is_removed_gives_its_regions_back_and_pages_stay(started, kit, word):
    started.full(kit.placement(onDelete=word))
    brk = kit.rule({"type": "Brk"}, "PreferredMany", "cxl")
    started.full(kit.placement(onDelete=word, rules=[brk]), seconds=30)
    assert started.machine.policies(100) == {"[heap]": kit.CXL, "0x20000000": None}
    assert node_of(started, SECOND) == {1}


def test_who_has_the_container_last_decides(started, kit):
    first = kit.placement("first", onDelete="Leave")
    second = kit.placement("second", priority=5)
    started.full(first)
    started.full(first, second, seconds=30)
    started.full(second, seconds=30)
    assert policies(started) == {kit.CXL}
    started.full(seconds=30)
    assert policies(started) == {None} and not started.claims


def test_one_that_has_lost_its_container_leaves_nothing(started, kit):
    first = kit.placement("first")
    second = kit.placement("second", priority=5, onDelete="Leave")
    started.full(first, second, seconds=30)
    started.full(first, seconds=30)
    started.full(seconds=30)
    assert policies(started) == {None} and not started.claims


@pytest.mark.parametrize("word", ["Leave", "RestorePages"])
@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_product_that_leaves_gives_all_policies_back_and_moves_nothing(
    started, kit, word, is_deleted
):
    started.full(kit.placement(onDelete=word))
    if is_deleted:
        started.full(seconds=0)
        started.reconciler.step()
    before = started.machine.pages(100, kit.HEAP)
    assert started.reconciler.undo_all() == (True, "")
    started.run(60)
    assert policies(started) == {None} and not started.claims
    assert started.machine.pages(100, kit.HEAP) == before


def test_a_ledger_of_an_older_agent_is_read(started, kit):
    started.full(kit.placement())
    kept = next(started.machine.host.journal.glob("a*.json"))
    record = json.loads(kept.read_text())
    assert not {"on_delete", "is_left"} & record["claim"].keys()
    started.restart()
    assert [claim.on_delete for claim in started.claims] == ["RestorePolicy"]
    started.full()
    assert not started.claims
