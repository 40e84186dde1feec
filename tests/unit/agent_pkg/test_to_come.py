# SPDX-License-Identifier: Apache-2.0
"""Memory that a process maps later has the policy of its rule from the first page on."""

import errno

import pytest
from memplace.errors import MissingCapability
from memplace_agent.errors import CallFailed, TryAgain
from memplace_agent.world import World

from tests.support.agent.build import HEAP_RULE, rule
from tests.support.agent.machine import CXL, HEAP, MIB
from tests.support.agent.mappings import PAGE, Vma

A = "a" * 64
ONE = ("mp", "p", "c0")
BRK, MMAP, BOTH = 1, 2, 3
LATER = 0x50000000


def placed(node, kit, *rules, **kwargs):
    return node.full(kit.placement(rules=list(rules) or [HEAP_RULE]), **kwargs)[ONE]


def future(node, pid=100):
    """The default that a process has, by kind, without the flag that makes it ours."""
    return {kind: policy for kind, (policy, _) in node.machine.processes[pid].future.items()}


def plain(policies):
    return {kind: (p.mode, p.nodes, p.flags - {"static"}) for kind, p in policies.items()}


CXL_BOTH = {BRK: (CXL.mode, CXL.nodes, frozenset()), MMAP: (CXL.mode, CXL.nodes, frozenset())}


def test_a_mapping_made_later_has_the_policy_before_any_look(started, kit):
    placed(started, kit)
    started.machine.born(100, kit.anon(LATER, PAGE))
    started.machine.born(100, Vma(HEAP + MIB, HEAP + 2 * MIB, "[heap]", pages={0: 256}))
    assert started.machine.policies(100)[hex(LATER)] == kit.CXL
    assert started.machine.pages(100, LATER) == {1: 1}
    assert started.machine.pages(100, HEAP + MIB) == {1: 256}


def test_it_is_set_in_one_call_before_the_ranges_and_once(started, kit):
    order = []
    started.machine.on_call = lambda: order.append("ranges")
    started.machine.on_future = lambda: order.append("default")
    placed(started, kit)
    assert order[:2] == ["default", "ranges"] and order.count("default") == 1
    assert [(kinds, least) for _, _, kinds, least in started.machine.futures] == [(BOTH, 0)]
    started.machine.born(100, kit.anon(LATER))
    started.run(300)
    assert len(started.machine.futures) == 1


def test_what_was_mapped_just_before_is_found_by_the_same_look(started, kit):
    def born():
        if not started.machine.futures:
            started.machine.born(100, kit.anon(LATER))

    started.machine.on_future = born
    placed(started, kit, seconds=0.5)
    assert started.machine.policies(100)[hex(LATER)] == kit.CXL


def test_the_same_if_nothing_else_is_to_be_set(node, kit):
    node.machine.start(100, A)
    node.machine.on_future = lambda: node.machine.born(100, kit.anon(LATER))
    node.reconciler.take(World(placements=(kit.placement(rules=[HEAP_RULE]),), pods=(kit.pod(),)))
    node.clock.now += 1.0
    assert node.reconciler.step()  # one look
    assert node.machine.policies(100)[hex(LATER)] == kit.CXL


def test_a_mapping_born_under_it_is_ours_and_given_back(started, kit):
    placed(started, kit)
    started.machine.born(100, kit.anon(LATER))
    made = len(started.machine.calls)
    report = placed(started, kit)
    assert report.rules[0].own_regions == 0 and report.state == "Placed"
    assert len(started.machine.calls) == made  # nothing had to be set on it
    started.full()
    assert set(started.machine.policies(100).values()) == {None}
    assert not future(started) and not started.claims


def test_brk_and_mmap_may_get_different_defaults(started, kit):
    anonymous = rule({"type": "Anonymous", "minSize": "64Ki"}, name="a", tiers=("dram",))
    placed(started, kit, anonymous, HEAP_RULE)
    assert {k: sorted(p.nodes) for k, p in future(started).items()} == {BRK: [1], MMAP: [0]}
    assert started.machine.processes[100].future[MMAP][1] == 64 << 10


def test_a_rule_that_the_kernel_can_not_keep_gets_none_and_says_why(started, kit):
    report = placed(started, kit, rule({"type": "Heap", "process": "a*"}, name="values"))
    assert not started.machine.futures
    expected = "not from the first page: rule values selects by process (FutureNotPossible)"
    assert report.new_memory == expected and report.state == "Placed"


def test_one_that_is_in_force_is_told(started, kit):
    expected = "brk() by rule r from the first page; mmap() by rule r from the first page"
    assert placed(started, kit).new_memory == expected


def test_nothing_is_set_or_said_where_the_kernel_has_none(started, kit):
    started.future = 1
    started.start()
    assert placed(started, kit).new_memory == ""
    assert not started.machine.futures


def test_bind_is_born_preferred_and_bound_by_the_next_look(started, kit):
    placed(started, kit, rule({"type": "Heap"}, mode="Bind"))
    assert plain(future(started)) == CXL_BOTH
    started.machine.born(100, kit.anon(LATER))
    started.run(30)
    assert started.machine.policies(100)[hex(LATER)].mode == "Bind"
    started.full()
    assert set(started.machine.policies(100).values()) == {None} and not future(started)


def test_one_that_is_gone_is_set_again(started, kit):
    placed(started, kit)
    started.machine.execute(100, kit.heap(), privileged=True)
    assert not future(started)
    started.run(30)
    assert plain(future(started)) == CXL_BOTH


def test_programs_that_are_executed_keep_it_and_what_they_map_is_ours(started, kit):
    placed(started, kit)
    started.machine.fork(100, 101, A)
    started.machine.execute(101)
    started.machine.born(101, kit.anon(LATER))
    report = started.run(30)[ONE]
    assert report.rules[0].own_regions == 0
    assert len(started.machine.futures) == 1
    started.full()
    assert started.machine.policies(101)[hex(LATER)] is None
    assert not future(started, 101)


def test_rules_that_imply_none_any_more_take_it_away(started, kit):
    placed(started, kit)
    started.machine.born(100, kit.anon(LATER))
    named = rule({"type": "Anonymous", "name": "a"}, {"type": "Brk"})
    placed(started, kit, named)
    assert plain(future(started)) == {BRK: CXL_BOTH[BRK]}
    assert started.machine.policies(100)[hex(LATER)] is None


def test_other_rules_change_it_in_one_call(started, kit):
    placed(started, kit)
    placed(started, kit, rule({"type": "Heap"}, tiers=("dram",)))
    assert len(started.machine.futures) == 2
    assert {p.nodes for p in future(started).values()} == {frozenset({0})}


def test_another_smallest_size_is_set_too(started, kit):
    placed(started, kit)
    placed(started, kit, rule({"type": "Brk"}, {"type": "Anonymous", "minSize": "1Mi"}))
    assert [(kinds, least) for _, _, kinds, least in started.machine.futures] == [
        (BOTH, 0),
        (MMAP, MIB),
    ]


def test_one_that_exec_would_drop_is_set_again(started, kit):
    placed(started, kit)
    status = started.machine.host.pid(100) / "status"
    status.write_text(status.read_text().replace(" exec", ""))
    started.restart()
    placed(started, kit)
    assert len(started.machine.futures) == 2


def test_a_tier_that_is_not_there_leaves_it_as_it_is(started, kit):
    placed(started, kit)
    started.machine.processes[100].allowed = frozenset({0})
    started.machine.write(100)
    report = placed(started, kit)
    assert report.reason == "NotAllowedByCpuset"
    assert "1 of 1 processes: can't follow rule r (NotAllowedByCpuset)" in report.new_memory
    assert plain(future(started)) == CXL_BOTH


THEIRS = {MMAP: (CXL, 0)}


@pytest.mark.parametrize("override", [False, True])
def test_one_that_somebody_else_set_is_left_alone_and_told(node, kit, override):
    node.machine.start(100, A, kit.heap(), future=THEIRS)
    report = placed(node, kit, HEAP_RULE | {"override": override})
    assert node.machine.processes[100].future[MMAP] == THEIRS[MMAP]
    assert node.machine.processes[100].future[BRK][0].flags == {"static"}
    text = "1 of 1 processes: has a default of its own, which is left alone (OwnPolicy)"
    assert text in report.new_memory
    node.full()
    assert node.machine.processes[100].future == THEIRS


def test_one_that_somebody_else_put_in_place_of_ours_is_left_alone(started, kit):
    placed(started, kit)
    process = started.machine.processes[100]
    process.future = {MMAP: (kit.BIND, 0)}
    started.machine.write(100)
    started.run(30)
    assert process.future[MMAP] == (kit.BIND, 0)
    assert BRK in process.future
    started.full()
    assert process.future == {MMAP: (kit.BIND, 0)}


def test_a_child_of_vfork_is_tried_again_without_noise(started, kit, caplog):
    started.machine.fork(100, 101, A, borrows=True)
    report = placed(started, kit)
    assert not future(started, 101) and report.state != "Failed"
    assert not [record for record in caplog.records if record.levelname != "INFO"]
    started.machine.execute(101, kit.heap())
    assert not future(started, 101)
    assert started.run(30)[ONE].state == "Placed"
    assert plain(future(started, 101)) == CXL_BOTH


def test_a_process_that_is_busy_is_tried_again_by_the_next_look(started, kit):
    def busy():
        started.machine.on_future = None
        raise TryAgain(errno.ESRCH, "it executes another program")

    started.machine.end(100)
    started.machine.start(101, A)  # it has nothing else that would be looked at again
    started.machine.on_future = busy
    placed(started, kit, seconds=30)
    assert plain(future(started, 101)) == CXL_BOTH


@pytest.mark.parametrize(
    "error", [CallFailed(errno.EINVAL, "no"), MissingCapability(errno.EPERM, "may not")]
)
def test_one_that_fails_is_told_and_the_rest_goes_on(started, kit, error):
    def fail():
        raise error

    started.machine.on_future = fail
    report = placed(started, kit)
    assert report.state == "Placed"
    assert f"1 of 1 processes: {error}" in report.new_memory


def test_one_that_failed_is_tried_again_though_all_else_is_as_it_was(started, kit):
    def fail():
        raise MissingCapability(errno.EPERM, "may not")

    started.machine.on_future = fail
    placed(started, kit)
    started.machine.on_future = None
    started.run(130)
    assert plain(future(started)) == CXL_BOTH


def test_none_is_set_that_could_not_be_told_from_the_programs_own(node, kit):
    flags = [frozenset(), frozenset({"static"})]
    own = [
        kit.anon(0x20000000 + n * (1 << 24), policy=type(CXL)(CXL.mode, CXL.nodes, each))
        for n, each in enumerate(flags)
    ]
    node.machine.start(100, A, kit.heap(), *own)
    report = placed(node, kit)
    assert not node.machine.futures
    assert "uses all forms of the policy itself" in report.new_memory


def test_none_is_set_near_the_number_of_mappings_that_it_may_have(started, kit):
    started.machine.host.proc.joinpath("sys/vm").mkdir(parents=True, exist_ok=True)
    started.machine.host.proc.joinpath("sys/vm/max_map_count").write_text("3\n")
    report = placed(started, kit)
    assert not started.machine.futures
    assert "nearly as many mappings as it may have" in report.new_memory


def test_the_claim_is_on_disk_before_it_is_set(started, kit):
    path = started.machine.host.journal / f"{A}.v2.json"
    seen = []
    started.machine.on_future = lambda: seen.append(path.exists())
    placed(started, kit)
    assert seen == [True]
