# SPDX-License-Identifier: Apache-2.0
"""Memory that several processes map: placed once if all of them are of one namespace, and
given back once; else left alone, with a reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from memplace.api.objects import parse_placement
from memplace.assignment import PodRef
from memplace.errors import KernelWithoutProcessMbind
from memplace.pods import PodState
from memplace_agent.procfs.query import Way
from memplace_agent.syscalls import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL

from tests.support.agent.machine import BIND, CXL, MIB
from tests.support.agent.mappings import Vma

A, B, C = "a" * 64, "b" * 64, "c" * 64
START = 0x7E0000000000
ZERO = "/dev/zero (deleted)"
BUFFERS = ((0, 1), 77)


def rules(entry=None, **more):
    policy = {"mode": "PreferredMany", "tiers": ["cxl"]}
    regions = [entry or {"type": "Shared"}]
    return [{"name": "buffers", "regions": regions, "policy": policy} | more]


def buffers(mib=64, at=START, path=ZERO, perms="rw-s", **kwargs: Any):
    members: dict[str, Any] = {"inode": 77, "device": (0, 1), "pages": {0: mib * 256}}
    return Vma(at, at + mib * MIB, path, perms, **(members | kwargs))


def other_pod(namespace, container=C, name="q"):
    ref = PodRef(namespace=namespace, name=name, uid=f"uid-{name}", containers=("c",))
    return PodState(ref, {"c": container})


@pytest.fixture
def two(node):
    node.machine.start(100, A, buffers())
    node.machine.start(101, A, buffers())
    return node


def pages_of(node, pid):
    found: Counter[int] = Counter()
    for vma in node.machine.processes[pid].vmas:
        found.update(vma.pages if vma.inode else {})
    return dict(found)


def report(node, placement=None, **kwargs):
    return node.full(*([placement] if placement else []), **kwargs)[("mp", "p", "c0")]


def test_what_two_processes_map_is_moved_once_and_counted_once(two, kit):
    found = report(two, kit.placement(rules=rules()), seconds=60)
    assert (found.state, found.reason) == ("Placed", "Placed"), found
    assert found.rules[0].bytes == 64 * MIB
    assert pages_of(two, 101) == {1: 64 * 256}
    assert [len(two.machine.processes[pid].vmas) for pid in (100, 101)] == [2, 2]
    assert two.metrics.apply_bytes.labels("cxl")._value.get() == 64 * MIB


def test_it_is_moved_where_the_kernel_merges_pages_as_well(two, kit):
    """It merges none that are shared; who maps these was asked."""
    two.machine.host.ksm.mkdir(parents=True)
    (two.machine.host.ksm / "pages_sharing").write_text("1000\n")
    found = report(two, kit.placement(rules=rules()), seconds=60)
    assert (found.state, pages_of(two, 100)) == ("Placed", {1: 64 * 256}), found
    flags = {flags for *_, flags in two.machine.calls}
    assert MPOL_MF_MOVE_ALL in flags and MPOL_MF_MOVE not in flags


def test_its_policy_is_in_the_object_and_comes_back_once(two, kit):
    report(two, kit.placement(rules=rules()), seconds=30)
    assert two.machine.policies(101)[ZERO] == CXL
    two.machine.calls.clear()
    two.full(seconds=30)
    assert two.machine.objects.ranges(BUFFERS) == []
    assert two.claims == ()
    assert {call[0] for call in two.machine.calls} == {100}


def test_it_comes_back_through_another_process_than_the_one_that_set_it(two, kit):
    """For the kernel a mapping that was never given a policy has none to take away."""
    report(two, kit.placement(rules=rules(existingPages="Leave")), seconds=30)
    setters = {call[0] for call in two.machine.calls}
    assert setters == {100}
    two.machine.end(100)
    two.full(seconds=30)
    assert two.machine.objects.ranges(BUFFERS) == []
    assert two.claims == ()


def test_it_is_set_again_through_a_process_that_had_set_it_before(two, kit):
    placement = kit.placement(rules=rules())
    report(two, placement, seconds=30)
    pinned = two.machine.processes[100]
    held = pinned.vmas
    two.machine.unmap(100, START)  # so that undo goes through the other one
    two.full(seconds=30)
    pinned.vmas = held
    two.machine.write(100)
    assert two.machine.objects.ranges(BUFFERS) == []
    report(two, placement, seconds=30)
    assert two.machine.policies(101)[ZERO] == CXL


def test_what_the_program_had_set_comes_back(two, kit):
    two.machine.objects.set(BUFFERS, 0, 64 * MIB, BIND)
    report(two, kit.placement(rules=rules(override=True)), seconds=30)
    assert two.machine.policies(100)[ZERO] == CXL
    two.full(seconds=30)
    assert two.machine.objects.ranges(BUFFERS) == [(0, 64 * MIB, BIND)]


def test_without_override_the_programs_policy_stays(two, kit):
    two.machine.objects.set(BUFFERS, 0, 64 * MIB, BIND)
    found = report(two, kit.placement(rules=rules()), seconds=30)
    assert found.rules[0].own_regions == 2
    assert two.machine.calls == []


def test_a_process_of_another_namespace_prevents_it(two, kit):
    two.machine.start(300, C, buffers(), pod="uid_q")
    pods = [kit.pod(), other_pod("elsewhere")]
    found = report(two, kit.placement(rules=rules()), pods=pods, seconds=30)
    assert (found.state, found.reason) == ("Failed", "SharedWithOthers")
    assert "process 300 of a pod of another namespace" in found.message
    assert two.machine.calls == []
    assert pages_of(two, 100) == {0: 64 * 256}


def test_a_process_of_another_pod_of_the_namespace_does_not(two, kit):
    two.machine.start(300, C, buffers(), pod="uid_q")
    found = report(two, kit.placement(rules=rules()), pods=[kit.pod(), other_pod("ns")], seconds=60)
    assert found.state == "Placed"


def test_a_process_of_no_pod_prevents_it_with_a_private_mapping_too(two, kit):
    two.machine.start(300, C, buffers(perms="r--p"), pod="uid_unknown")
    found = report(two, kit.placement(rules=rules()), seconds=30)
    assert (found.reason, two.machine.calls) == ("SharedWithOthers", [])
    assert "in no pod that is known" in found.message


def test_who_cannot_be_read_may_map_it(two, kit):
    two.machine.start(300, C, pod="uid_q")
    maps = two.machine.host.pid(300) / "maps"
    maps.unlink()
    maps.mkdir()  # EISDIR; the kernel says EACCES
    found = report(two, kit.placement(rules=rules()), seconds=30)
    assert (found.reason, two.machine.calls) == ("SharedWithOthers", [])
    assert "process 300 can't be read" in found.message


def test_a_foreign_process_that_comes_right_before_the_call_is_seen_after_it(two, kit):
    put = two.store.put

    def come(claim):
        put(claim)
        if 300 not in two.machine.processes:
            two.machine.start(300, C, buffers(), pod="uid_q")

    two.store.put = come
    found = report(two, kit.placement(rules=rules()), seconds=15)
    assert found.reason == "SharedWithOthers"
    assert pages_of(two, 300) == {0: 64 * 256}
    assert two.machine.objects.ranges(BUFFERS) == []


def test_a_foreign_process_that_comes_during_the_work_ends_it(two, kit):
    """What was set is given back, and no more pages move."""
    two.bandwidth = 1 << 20
    two.restart()
    placement = kit.placement(rules=rules())
    report(two, placement, seconds=8)
    before = pages_of(two, 100)
    assert 0 < before.get(1, 0) < 64 * 256
    two.machine.start(300, C, buffers(), pod="uid_q")
    found = report(two, placement, seconds=120)
    assert found.reason == "SharedWithOthers"
    assert two.machine.objects.ranges(BUFFERS) == []
    assert pages_of(two, 100).get(1, 0) <= before[1] + 1024
    assert two.claims == ()


def test_a_foreign_process_that_comes_later_is_noticed(two, kit):
    placement = kit.placement(rules=rules())
    report(two, placement, seconds=60)
    two.machine.start(300, C, buffers(), pod="uid_q")
    found = two.run(180)[("mp", "p", "c0")]
    assert found.reason == "SharedWithOthers"
    assert two.machine.objects.ranges(BUFFERS) == []


def test_without_such_rules_nobody_elses_mappings_are_read(two, kit):
    two.machine.start(300, C, buffers(), pod="uid_q")
    read = []
    two.machine.on_read = lambda directory: read.append(directory.name)
    report(two, kit.placement(), seconds=60)
    assert "300" not in read


def test_a_file_on_a_disk_is_left_alone(two, kit):
    two.machine.start(102, A, buffers(path="/data/table", inode=5, device=(8, 1)))
    found = report(two, kit.placement(rules=rules({"type": "File"})), seconds=30)
    assert (found.reason, two.machine.calls) == ("SharedNotSupported", [])
    assert "page cache" in found.message


def test_a_file_of_a_volume_in_memory_is_placed(node, kit):
    table = buffers(path="/cache/table", inode=5, device=(0, 99))
    node.machine.start(100, A, table)
    info = "36 25 0:99 / /cache rw,relatime - tmpfs tmpfs rw\n"
    (node.machine.host.pid(100) / "mountinfo").write_text(info)
    found = report(node, kit.placement(rules=rules({"type": "File"})), seconds=60)
    assert found.state == "Placed", found
    node.full(seconds=30)
    assert node.machine.objects.ranges(((0, 99), 5)) == []


@pytest.mark.parametrize(("kind", "volume"), [("File", "/cache"), ("Shared", "/dev/shm")])
def test_a_private_mapping_of_a_file_in_memory_is_left_alone(node, kit, kind, volume):
    """shmem keeps its policy in the file all the same: everybody would have it."""
    table = buffers(path=f"{volume}/t", inode=5, device=(0, 99), perms="rw-p")
    node.machine.start(100, A, table)
    info = f"36 25 0:99 / {volume} rw,relatime - tmpfs tmpfs rw\n"
    (node.machine.host.pid(100) / "mountinfo").write_text(info)
    found = report(node, kit.placement(rules=rules({"type": kind})), seconds=60)
    assert (found.reason, node.machine.calls) == ("SharedNotSupported", []), found
    assert "for all who map it" in found.message
    assert node.machine.objects.ranges(((0, 99), 5)) == []


def test_a_private_mapping_of_a_file_on_a_disk_is_placed(node, kit):
    """btrfs and overlayfs have no device with a major number either."""
    node.machine.start(100, A, buffers(path="/data/t", inode=5, device=(0, 98), perms="rw-p"))
    (node.machine.host.pid(100) / "mountinfo").write_text("36 25 0:98 / /data rw - btrfs x rw\n")
    report(node, kit.placement(rules=rules({"type": "File"})), seconds=60)
    assert {call[0] for call in node.machine.calls} == {100}


def test_huge_pages_have_their_policy_in_each_mapping(node, kit):
    huge = {"path": "/dev/hugepages/x", "inode": 9, "device": (0, 30), "page_size": 2 << 20}
    for pid in (100, 101):
        node.machine.start(pid, A, buffers(**huge))
    placement = kit.placement(rules=rules({"type": "HugeTLB"}))
    report(node, placement, seconds=60)
    for pid in (100, 101):
        assert node.machine.policies(pid)["/dev/hugepages/x"] == CXL
    node.full(seconds=30)
    for pid in (100, 101):
        assert node.machine.policies(pid)["/dev/hugepages/x"] is None


def test_the_heap_of_a_process_with_shared_memory_keeps_its_form(two, kit):
    """A policy of an object is no policy that the program has set for itself."""
    two.machine.map(100, kit.heap())
    heap = {"name": "heap", "regions": [{"type": "Brk"}], "policy": rules()[0]["policy"]}
    report(two, kit.placement(rules=[*rules(), heap]), seconds=60)
    assert two.machine.policies(100)["[heap]"] == CXL
    assert "static" in two.machine.processes[100].vmas[0].policy.flags
    two.full(seconds=30)
    assert two.machine.policies(100) == {"[heap]": None, ZERO: None}
    assert two.claims == ()


def test_an_agent_that_starts_anew_knows_what_is_its_own(two, kit):
    placement = kit.placement(rules=rules())
    report(two, placement, seconds=60)
    two.machine.calls.clear()
    two.restart()
    found = report(two, placement, seconds=60)
    assert (found.state, found.rules[0].own_regions) == ("Placed", 0)
    assert two.machine.calls == []
    two.restart()
    two.full(seconds=30)
    assert two.machine.objects.ranges(BUFFERS) == [] and two.claims == ()


def test_a_container_that_starts_again_finds_its_segment(two, kit):
    path = "/dev/shm/seg"
    for pid in (100, 101):
        two.machine.end(pid)
    segment = buffers(path=path, device=(0, 1), inode=77)
    two.machine.start(100, A, segment)
    placement = kit.placement(rules=rules())
    report(two, placement, seconds=60)
    two.machine.end(100)
    two.full(placement, seconds=60)
    assert [claim.container for claim in two.claims if "object" in claim.container]
    two.machine.start(110, A, replace(segment, origin=-1))
    found = report(two, placement, seconds=60)
    assert found.rules[0].own_regions == 0
    two.full(seconds=30)
    assert two.machine.objects.ranges(BUFFERS) == [] and two.claims == ()


def test_what_nobody_maps_any_more_is_said_and_then_forgotten(two, kit):
    report(two, kit.placement(rules=rules()), seconds=60)
    for pid in (100, 101):
        two.machine.unmap(pid, START)
    two.full(seconds=30)
    assert "mapped by no process" in two.said["mp"].message
    two.run(900)
    assert two.claims == ()


def test_two_placements_do_not_fight_over_an_object(two, kit):
    one = kit.placement(rules=rules())
    dram = {"mode": "PreferredMany", "tiers": ["dram"]}
    two.machine.start(300, C, buffers(), pod="uid_q")
    pod_q = other_pod("ns")
    one_pod = replace(pod_q, ref=replace(pod_q.ref, labels={"app": "y"}))
    late = parse_placement(
        {
            "metadata": {
                "name": "late",
                "namespace": "ns",
                "uid": "uid-late",
                "generation": 1,
                "creationTimestamp": "2026-01-02T00:00:00Z",
            },
            "spec": {"selector": {"matchLabels": {"app": "y"}}, "rules": rules(policy=dram)},
        }
    )
    found = two.full(one, late, pods=[kit.pod(), one_pod], seconds=60)
    assert found[("mp", "p", "c0")].state == "Placed"
    lost = found[("late", "q", "c")]
    assert (lost.state, lost.reason) == ("Failed", "SharedWithOthers")
    assert "follows placement mp" in lost.message
    assert two.machine.policies(300)[ZERO] == CXL


@pytest.mark.parametrize("way", [Way.QUERY, Way.MAPS])
def test_kernels_that_do_not_tell_policies_give_it_back_as_well(two, kit, way):
    two.way = way
    two.start()
    report(two, kit.placement(rules=rules()), seconds=60)
    assert two.machine.policies(101)[ZERO] == CXL
    two.full(seconds=60)
    assert two.machine.objects.ranges(BUFFERS) == []


def test_everything_is_given_back_at_retirement(two, kit):
    report(two, kit.placement(rules=rules()), seconds=60)
    assert two.reconciler.undo_all() == (True, "")
    assert two.machine.objects.ranges(BUFFERS) == []


# --- nodes that can set no policies ---


@pytest.fixture
def stock(two, kit):
    two.unsupported = KernelWithoutProcessMbind("this kernel does not announce it.")
    two.way = Way.MAPS
    two.start()
    two.machine.map(100, kit.heap())
    return two


def everything(kit, asked):
    heap = {"name": "heap", "regions": [{"type": "Brk"}], "policy": rules()[0]["policy"]}
    return kit.placement(onUnsupported=asked, rules=[*rules(), heap])


def test_where_no_policy_can_be_set_it_is_not_moved_and_what_is_private_is(stock, kit):
    found = report(stock, everything(kit, "BestEffort"), seconds=60)
    assert (found.state, found.reason) == ("Failed", "SharedNotSupported"), found
    assert "this node can't set any" in found.message
    assert pages_of(stock, 100) == pages_of(stock, 101) == {0: 64 * 256}
    assert stock.machine.pages(100, kit.HEAP) == {1: 256}
    assert {move[0] for move in stock.machine.moves} == {100}
    assert not stock.machine.calls and not stock.claims


@pytest.mark.parametrize("asked", ["BestEffort", "Observe"])
def test_where_no_policy_can_be_set_nobody_is_asked_who_maps_it(stock, kit, asked):
    stock.machine.start(300, C, buffers(), pod="uid_q")
    read = []
    stock.machine.on_read = lambda directory: read.append(directory.name)
    report(stock, everything(kit, asked), seconds=60)
    assert "100" in read and "300" not in read
    assert not stock.machine.calls and not stock.claims
