# SPDX-License-Identifier: Apache-2.0
"""What the agent does on a machine of text files: set, moved, recorded and reported."""

import errno

import pytest
from memplace.errors import KernelWithoutProcessMbind
from memplace_agent.procfs.query import Way
from memplace_agent.syscalls import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL

A = "a" * 64
ONE = ("mp", "p", "c0")


def test_what_a_rule_means_is_moved_and_the_rest_is_not_touched(node, kit):
    small = kit.anon(0x30000000, 0x4000)
    shared = kit.Vma(0x40000000, 0x40200000, "/memfd:x", "rw-s", 7, pages={0: 512})
    stack = kit.Vma(0x50000000, 0x50200000, "[stack]", pages={0: 9})
    node.machine.start(100, A, kit.heap(), kit.anon(), small, shared, stack)
    report = node.full(kit.placement())[ONE]
    assert report.state == "Placed"
    assert node.machine.policies(100) == {
        "[heap]": kit.CXL,
        "0x20000000": kit.CXL,
        "0x30000000": None,
        "/memfd:x": None,
        "[stack]": None,
    }
    (rule,) = report.rules
    assert (rule.regions, rule.bytes, rule.misplaced_bytes) == (2, 2 * kit.MIB, 0)
    assert [(n.id, n.bytes) for n in rule.numa_nodes] == [(1, 2 * kit.MIB)]


def test_a_second_pass_makes_no_call(started, kit):
    started.full(kit.placement())
    made = len(started.machine.calls)
    started.full(kit.placement())
    assert made and len(started.machine.calls) == made


def moving(flags):
    return flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL)


def moves(machine):
    return [call for call in machine.calls if moving(call[3])]


def test_policies_come_first_and_in_as_few_calls_as_possible(started, kit):
    started.full(kit.placement())
    first, *rest = started.machine.calls
    assert [end - start for start, end in first[1]] == [kit.MIB, kit.MIB]
    assert not moving(first[3]) and all(moving(flags) for *_, flags in rest)


def test_private_anonymous_memory_moves_with_what_children_share(started, kit):
    started.full(kit.placement())
    assert {moving(flags) for *_, flags in moves(started.machine)} == {MPOL_MF_MOVE_ALL}


@pytest.mark.parametrize(
    ("sharing", "flags", "way", "expected"),
    [
        (7, "rd wr mg", Way.POLICY, MPOL_MF_MOVE),
        (7, "rd wr", Way.POLICY, MPOL_MF_MOVE_ALL),
        (7, "", Way.MAPS, MPOL_MF_MOVE),
        (0, "rd wr mg", Way.POLICY, MPOL_MF_MOVE_ALL),
    ],
)
def test_merged_pages_of_others_are_not_moved_along(node, kit, *, sharing, flags, way, expected):
    host = node.machine.host
    host.ksm.mkdir(parents=True)
    (host.ksm / "pages_sharing").write_text(f"{sharing}\n")
    node.way = way
    node.start()
    node.machine.start(100, A, kit.heap(flags=flags))
    node.full(kit.placement())
    assert {moving(found) for *_, found in moves(node.machine)} == {expected}


def test_leave_moves_nothing(started, kit):
    rule = {
        "name": "r",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
        "existingPages": "Leave",
    }
    assert started.full(kit.placement(rules=[rule]))[ONE].state == "Placed"
    assert started.machine.pages(100, kit.HEAP) == {0: 256}
    assert started.machine.policies(100)["[heap]"] == kit.CXL


def test_a_new_mapping_and_a_new_process_are_seen_without_an_event(started, kit):
    started.full(kit.placement())
    started.machine.map(100, kit.anon(0x60000000))
    started.run(15)
    assert started.machine.policies(100)["0x60000000"] == kit.CXL
    started.machine.start(101, A, kit.heap())
    assert started.run(15)[ONE].state == "Placed"
    assert started.machine.policies(101)["[heap]"] == kit.CXL


def test_new_memory_makes_no_placement_unplaced_however_long_all_was_quiet(started, kit):
    started.full(kit.placement())
    started.run(300)
    started.machine.map(100, kit.anon(0x60000000, 16 * kit.MIB))
    states = {started.run(0.2)[ONE].state for _ in range(600)}
    assert started.machine.pages(100, 0x60000000) == {1: 4096}
    assert states == {"Placed"}


def test_a_task_policy_is_not_turned_into_one_of_the_mapping(node, kit):
    node.machine.start(100, A, kit.heap(), task_policy=kit.BIND)
    node.full(kit.placement())
    node.full()
    assert node.machine.policies(100)["[heap]"] is None


def test_the_claim_is_on_disk_before_the_first_call(started, kit):
    path = started.machine.host.journal / f"{A}.v2.json"
    seen = []
    started.machine.on_call = started.machine.on_future = lambda: seen.append(path.exists())
    started.full(kit.placement())
    assert len(seen) > 1 and all(seen)


@pytest.mark.parametrize("crash_at", [0, 1, 7])
def test_killed_in_the_middle_the_next_agent_goes_on_and_undoes_right(node, kit, crash_at):
    big = kit.anon(0x100000000, 1 << 30, policy=kit.BIND)
    wanted = kit.placement(rules=[kit.overriding()])
    node.machine.start(100, A, kit.heap(), big)

    def crash():
        if len(node.machine.calls) >= crash_at:
            raise KeyboardInterrupt

    node.machine.on_call = crash
    with pytest.raises(KeyboardInterrupt):
        node.full(wanted)
    node.machine.on_call = None
    node.restart()
    assert node.full(wanted)[ONE].state == "Placed"
    node.restart()
    node.full()
    assert node.machine.policies(100) == {"[heap]": None, "0x100000000": kit.BIND}
    assert not node.claims


def test_after_a_restart_our_own_policy_is_not_taken_for_theirs(started, kit):
    started.full(kit.placement())
    started.restart()
    started.full(kit.placement())
    started.full(kit.placement(rules=[kit.interleave()]))
    started.restart()
    started.full()
    assert set(started.machine.policies(100).values()) == {None}


def test_the_cpuset_bounds_the_plan(started, kit):
    started.machine.processes[100].allowed = frozenset({0})
    started.machine.write(100)
    report = started.full(kit.placement())[ONE]
    assert (report.state, report.reason) == ("Failed", "NotAllowedByCpuset")
    assert not started.machine.calls


def test_a_full_tier_is_said_and_not_tried(node, kit):
    node.machine.start(100, A, kit.heap())
    node.machine.set_free(1, 100)
    report = node.full(kit.placement())[ONE]
    assert (report.state, report.reason) == ("Failed", "TierFull")
    assert report.rules[0].misplaced_bytes == 256 * 4096
    assert not moves(node.machine)
    node.machine.set_free(1, 8 << 20)
    assert node.run(60)[ONE].state == "Placed"


def test_pages_that_do_not_move_are_said_and_tried_ever_more_rarely(node, kit):
    node.machine.start(100, A, kit.heap(stuck=True))
    report = node.full(kit.placement(), seconds=600)[ONE]
    assert (report.state, report.reason) == ("Failed", "Failed")
    assert "pinned" in report.message
    made = len(moves(node.machine))
    node.run(3600)
    assert made <= 6 and len(moves(node.machine)) <= made + 3


def test_a_tier_that_no_node_has(started, kit):
    rule = {"name": "r", "regions": [{"type": "Heap"}], "policy": {"mode": "Bind", "tiers": ["x"]}}
    assert started.full(kit.placement(rules=[rule]))[ONE].reason == "TierUnknown"
    assert not started.machine.calls


def test_a_bad_process_stops_neither_its_container_nor_another(node, kit):
    node.machine.start(100, A, kit.heap())
    node.machine.start(101, A, kit.heap())
    node.machine.start(200, "b" * 64, kit.heap())

    def denied(directory):
        if directory.name == "100":
            raise PermissionError(errno.EACCES, "Permission denied")

    node.machine.on_read = denied
    reports = node.full(kit.placement(), pods=[kit.pod(ids="ab")])
    assert (reports[ONE].state, reports[ONE].reason) == ("Failed", "MissingCapability")
    assert reports["mp", "p", "c1"].state == "Placed"
    assert node.machine.policies(101)["[heap]"] == kit.CXL


def test_a_process_that_ends_before_its_call_is_normal(started, kit):
    started.machine.start(101, A, kit.heap())
    started.machine.on_call = lambda: 101 in started.machine.processes and started.machine.end(101)
    assert started.full(kit.placement())[ONE].state == "Placed"


def test_a_mapping_that_vanished_before_its_call_is_skipped(started, kit):
    started.machine.on_call = lambda: started.machine.unmap(100, kit.HEAP)
    assert started.full(kit.placement())[ONE].state == "Placed"
    assert started.machine.policies(100) == {"0x20000000": kit.CXL}


def test_the_pid_of_another_process_is_not_touched(started, kit):
    started.full(kit.placement())
    started.machine.end(100)
    # The same number, another process, in no container; its heap carries the same policy.
    started.machine.start(100, "f" * 64, kit.heap(policy=kit.CXL))
    started.full()
    assert started.machine.policies(100)["[heap]"] == kit.CXL
    assert not started.claims


def test_a_node_without_the_kernel_touches_nothing(started, kit):
    started.unsupported = KernelWithoutProcessMbind("this kernel has no process_mbind().")
    started.restart()
    report = started.full(kit.placement())[ONE]
    assert (report.state, report.reason) == ("Unsupported", "KernelWithoutProcessMbind")
    assert "Boot a kernel" in report.message
    assert not started.machine.calls and not started.claims


def test_the_newer_of_two_placements_learns_that_it_lost(started, kit):
    older = kit.placement("old")
    newer = kit.placement("new", created="2026-02-01T00:00:00Z")
    assert started.full(newer, older)["old", "p", "c0"].state == "Placed"
    lost = started.said["new"]
    assert (lost.reason, lost.conflicts, lost.pods) == ("Conflict", 1, ())
    assert "ns/old" in lost.message


def test_a_container_without_processes_is_pending(node, kit):
    assert node.full(kit.placement())[ONE].state == "Pending"


def test_bytes_brought_to_a_tier_are_counted(started, kit):
    started.full(kit.placement())
    value = started.metrics.registry.get_sample_value
    assert value("memplace_agent_apply_bytes_total", {"tier": "cxl"}) == 2 * kit.MIB
    assert value("memplace_agent_managed_containers") == 1


def test_a_rule_for_the_default_policy_settles_under_a_task_policy(node, kit):
    node.machine.start(100, A, kit.heap(policy=kit.CXL), task_policy=kit.BIND)
    rule = {
        "name": "d",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "Default"},
        "override": True,
    }
    assert node.full(kit.placement(rules=[rule]))[ONE].state == "Placed"
    assert node.machine.policies(100)["[heap]"] is None
    made = len(node.machine.calls)
    node.full(kit.placement(rules=[rule]))
    assert len(node.machine.calls) == made
    node.full()
    assert node.machine.policies(100)["[heap]"] == kit.CXL


def test_redis_needs_one_rule(node, kit):
    # What jemalloc maps, small as it is; threads' stacks stay.
    jemalloc = [kit.anon(0x20000000 + i * 0x100000, 0x8000) for i in range(4)]
    guard = kit.Vma(0x3FFFF000, 0x40000000, perms="---p", flags="mr mw me nh")
    stack = kit.Vma(0x40000000, 0x40800000, pages={0: 9}, flags="rd wr mr mw me ac nh")
    code = kit.Vma(0x50000000, 0x50010000, perms="r-xp", pages={0: 9})
    node.machine.start(100, A, kit.heap(), *jemalloc, guard, stack, code)
    rule = kit.overriding() | {"override": False}
    report = node.full(kit.placement(rules=[rule]))[ONE]
    assert report.state == "Placed"
    left = {v.start for v in node.machine.processes[100].vmas if v.pages.get(0)}
    assert left == {stack.start, code.start}
    assert node.machine.policies(100)[hex(stack.start)] is None


def test_growth_next_to_a_placed_region_is_placed(node, kit):
    rule = {
        "name": "large",
        "regions": [{"type": "Anonymous", "minSize": "4Mi"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    node.machine.start(100, A, kit.anon(0x20000000, 4 * kit.MIB))
    node.full(kit.placement(rules=[rule]))
    node.machine.map(100, kit.anon(0x20400000, kit.MIB))
    node.full(kit.placement(rules=[rule]))
    assert node.machine.policies(100)["0x20400000"] == kit.CXL
    node.full()
    assert set(node.machine.policies(100).values()) == {None}


def test_the_programs_own_policy_wins_and_that_is_said(node, kit):
    node.machine.start(100, A, kit.heap(policy=kit.BIND), kit.anon())
    report = node.full(kit.placement())[ONE]
    assert node.machine.policies(100) == {"[heap]": kit.BIND, "0x20000000": kit.CXL}
    assert report.state == "Placed"
    assert (report.rules[0].regions, report.rules[0].own_regions) == (1, 1)
    assert "override: true" in report.message


def test_a_rule_may_be_about_some_processes_only(node, kit):
    node.machine.start(100, A, kit.heap(), exe="/usr/bin/main")
    node.machine.start(101, A, kit.heap(), comm="worker-1")
    for pattern, placed in (("worker-*", 101), ("/usr/bin/*", 100)):
        rule = kit.overriding() | {"regions": [{"type": "Heap", "process": pattern}]}
        assert node.full(kit.placement(rules=[rule]))[ONE].state == "Placed"
        policies = {pid: node.machine.policies(pid)["[heap]"] for pid in (100, 101)}
        assert policies == {100: None, 101: None} | {placed: kit.CXL}


def test_memory_of_which_nobody_knows_who_maps_it_is_refused(node, kit):
    shared = kit.Vma(0x40000000, 0x40200000, "/memfd:x", "rw-s", 7, pages={0: 512})
    node.machine.start(100, A, kit.heap(), shared)
    rule = kit.overriding() | {"regions": [{"type": "Shared"}]}
    report = node.full(kit.placement(rules=[rule]))[ONE]
    assert (report.state, report.reason) == ("Failed", "SharedNotSupported")
    assert not node.machine.calls


def test_page_cache_on_the_tier_is_room_and_pinned_pages_are_not_its_fault(node, kit):
    free, pinned = kit.anon(0x20000000, 4 * kit.MIB), kit.anon(0x30000000, stuck=True)
    node.machine.set_free(1, 16 << 10, cache_kb=8 << 20)
    node.machine.start(100, A, free, pinned)
    report = node.full(kit.placement(), seconds=600)[ONE]
    assert node.machine.pages(100, 0x20000000) == {1: 1024}
    assert (report.reason, "pinned" in report.message) == ("Failed", True)


def test_huge_pages_without_a_pool_are_said_whatever_memory_is_free(node, kit):
    pool = node.machine.host.numa_nodes / "node1/hugepages/hugepages-2048kB"
    pool.mkdir(parents=True)
    (pool / "free_hugepages").write_text("0\n")
    huge = kit.anon(
        1 << 40, 64 * kit.MIB, page_size=2 * kit.MIB, path="/anon_hugepage (deleted)", inode=4
    )
    node.machine.start(100, A, huge)
    wanted = kit.placement(rules=[kit.rule({"type": "HugeTLB"}, "PreferredMany", "cxl")])
    report = node.full(wanted)[ONE]
    assert (report.state, report.reason) == ("Failed", "TierFull")
    assert "no free huge page of 2Mi" in report.message
    assert report.rules[0].misplaced_bytes == 64 * kit.MIB
    assert not moves(node.machine)
    (pool / "free_hugepages").write_text("40\n")
    assert node.run(60)[ONE].state == "Placed"
    assert node.machine.pages(100, 1 << 40) == {1: 16384}


def test_a_vast_reservation_costs_no_more_calls_than_its_memory(node, kit):
    node.machine.start(100, A, kit.anon(1 << 40, 14 << 40, pages={0: 16384}))
    report = node.full(kit.placement(), seconds=240)[ONE]
    assert node.machine.policies(100)[hex(1 << 40)] == kit.CXL
    assert len(node.machine.calls) <= 64
    assert (report.state, report.rules[0].bytes) == ("Placed", 16384 << 12)
    assert node.machine.pages(100, 1 << 40) == {1: 16384}
