# SPDX-License-Identifier: Apache-2.0
"""Pages are moved where no policy can be set: again and again, and nothing is claimed."""

import errno
from dataclasses import replace

import pytest
from memplace.api.objects import parse_tier
from memplace.errors import KernelWithoutProcessMbind, SeccompFiltered
from memplace_agent.procfs.query import Way

A = "a" * 64
ONE = ("mp", "p", "c0")
BLOCK = 2 << 20
BASE = 0x40000000
META = {"uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
FAR = parse_tier({"metadata": {**META, "name": "far"}, "spec": {"numaNodes": [1, 2]}})


@pytest.fixture
def stock(started):
    """A node whose kernel has no process_mbind(), and tells no policies."""
    started.unsupported = KernelWithoutProcessMbind("this kernel does not announce it.")
    started.way = Way.MAPS
    started.restart()
    return started


@pytest.fixture
def placement(kit):
    return lambda **spec: kit.placement(**{"onUnsupported": "BestEffort"} | spec)


def only(kit, mode="PreferredMany", tiers=("cxl",), entry=None, **more):
    return [kit.rule(entry or {"type": "Heap"}, mode, *tiers) | more]


def on(machine, start, pid=100):
    return machine.pages(pid, start)


def test_pages_are_moved_and_nothing_is_set_or_claimed(stock, kit, placement):
    report = stock.full(placement())[ONE]
    assert (report.state, report.reason) == ("PlacedBestEffort", "PlacedBestEffort")
    assert report.sticky is False
    assert "later pages come from where the program's own policy says" in report.message
    (rule,) = report.rules
    assert [(n.id, n.bytes) for n in rule.numa_nodes] == [(1, 2 * kit.MIB)]
    machine = stock.machine
    assert on(machine, kit.HEAP) == on(machine, 0x20000000) == {1: 256}
    assert not machine.calls and not machine.futures and not stock.claims
    assert set(machine.policies(100).values()) == {None}


@pytest.mark.parametrize("asked", ["Fail", "Observe", None])
def test_only_who_asks_for_it_has_pages_moved(stock, kit, asked):
    report = stock.full(kit.placement(**({"onUnsupported": asked} if asked else {})))[ONE]
    assert report.state == ("Observed" if asked == "Observe" else "Unsupported")
    assert not stock.machine.moves
    assert on(stock.machine, kit.HEAP) == {0: 256}


def test_a_node_that_can_place_takes_no_notice_of_it(started, kit):
    report = started.full(kit.placement(onUnsupported="BestEffort"))[ONE]
    assert (report.state, report.reason) == ("Placed", "Placed")
    assert started.machine.calls and not started.machine.moves


def test_new_pages_are_moved_again_and_again(stock, kit, placement):
    machine = stock.machine
    machine.map(100, kit.anon(BASE, 16 * kit.MIB))
    stock.full(placement())
    for _ in range(8):  # each time the program has touched all of it anew
        process = machine.processes[100]
        process.vmas = [v if v.path else v.with_runs([(0, v.runs[0][1])]) for v in process.vmas]
        machine.write(100)
        assert on(machine, BASE) == {0: 4096}
        assert stock.run(130)[ONE].state == "PlacedBestEffort"
        assert on(machine, BASE) == {1: 4096}


def test_new_memory_makes_it_no_less_placed(stock, kit, placement):
    stock.full(placement())
    stock.machine.map(100, kit.anon(0x60000000, 16 * kit.MIB))
    states = {stock.run(0.2)[ONE].state for _ in range(300)}
    assert on(stock.machine, 0x60000000) == {1: 4096}
    assert states == {"PlacedBestEffort"}


def test_what_is_in_its_place_is_not_moved(stock, placement):
    stock.full(placement())
    before = len(stock.machine.moves)
    assert before
    stock.run(600)
    assert len(stock.machine.moves) == before


def test_only_pages_on_wrong_nodes_are_named_2_mib_at_a_time(stock, kit, placement):
    runs = [(0, 700), (1, 1000), (-1, 100), (0, 3000)]
    vma = kit.anon(BASE + 0x1000, 4800 << 12, pages={}).with_runs(runs)
    stock.machine.map(100, vma)
    stock.full(placement(rules=only(kit, entry={"type": "Anonymous"})))
    moved = [call for call in stock.machine.moves if call[1][0] >= BASE]
    addresses = [address for call in moved for address in call[1]]
    assert len(addresses) == len(set(addresses)) == 3700
    assert all(len({address // BLOCK for address in call[1]}) == 1 for call in moved)
    assert all(set(nodes) == {1} and move_all for _, _, nodes, move_all in moved)


def test_the_bandwidth_is_kept(stock, kit, placement):
    stock.bandwidth = 16 * kit.MIB
    stock.restart()
    stock.machine.map(100, kit.anon(BASE, 256 * kit.MIB))
    stock.full(placement(), seconds=5)
    moved = sum(len(call[1]) << 12 for call in stock.machine.moves)
    assert 5 * 14 * kit.MIB <= moved <= 5 * 16 * kit.MIB + (8 * kit.MIB)
    report = stock.reports()[ONE]
    assert (report.state, report.sticky) == ("Moving", False)


def test_maxbandwidth_of_the_placement_is_kept(stock, kit, placement):
    stock.machine.map(100, kit.anon(BASE, 64 * kit.MIB))
    stock.full(placement(migration={"maxBandwidth": "4Mi"}), seconds=5)
    moved = sum(len(call[1]) << 12 for call in stock.machine.moves)
    assert moved <= 5 * 4 * kit.MIB + 4 * kit.MIB


def test_a_placement_that_goes_is_forgotten_and_its_moves_end(stock, kit, placement):
    stock.bandwidth = 8 * kit.MIB
    stock.restart()
    stock.machine.map(100, kit.anon(BASE, 256 * kit.MIB))
    stock.full(placement(), seconds=2)
    before = len(stock.machine.moves)
    assert before and stock.mover.progress()
    assert stock.full(seconds=60) == {}
    assert len(stock.machine.moves) == before
    assert not stock.mover.progress() and not stock.claims


def test_an_order_that_is_cancelled_ends_between_two_arrays(stock, kit, placement):
    stock.machine.map(100, kit.anon(BASE, 64 * kit.MIB))
    machine = stock.machine

    def cancel():
        if len(machine.moves) == 5:
            stock.reconciler.take(replace(stock.world, placements=()))

    machine.on_move = cancel
    stock.full(placement(), seconds=5)
    assert len(machine.moves) == 6


def test_the_cpuset_of_the_process_bounds_it(stock, kit, placement):
    stock.machine.processes[100].allowed = frozenset({0})
    stock.machine.write(100)
    report = stock.full(placement())[ONE]
    assert (report.state, report.reason) == ("Failed", "NotAllowedByCpuset")
    assert not stock.machine.moves


def test_a_cpuset_that_changes_meanwhile_ends_the_move_and_no_more(stock, kit, placement):
    machine = stock.machine

    def shrink():
        machine.processes[100].allowed = frozenset({0})
        machine.write(100)

    machine.on_move = shrink
    report = stock.full(placement())[ONE]
    assert (report.state, report.reason) == ("Failed", "NotAllowedByCpuset")
    assert on(machine, kit.HEAP) == {0: 256}


def test_memory_that_the_program_bound_itself_is_left_alone(stock, kit, placement):
    stock.machine.map(100, kit.anon(BASE, policy=kit.BIND))
    report = stock.full(placement())[ONE]
    assert on(stock.machine, BASE) == {0: 256}
    assert report.state == "PlacedBestEffort" and "OwnPolicy" in report.message


def test_a_range_that_is_shared_by_now_is_left_alone(stock, kit, placement):
    stock.bandwidth = 1 * kit.MIB
    stock.restart()
    machine = stock.machine
    machine.map(100, kit.anon(BASE, 64 * kit.MIB))
    stock.full(placement(rules=only(kit, entry={"type": "Anonymous"})), seconds=3)
    process = machine.processes[100]
    process.vmas = [
        replace(v, perms="rw-s", inode=7) if v.start == BASE else v for v in process.vmas
    ]
    machine.write(100)
    before = on(machine, BASE)
    assert before[0]
    stock.run(60)
    assert on(machine, BASE) == before


def test_pages_that_stay_are_told_and_not_hammered(stock, kit, placement):
    stock.machine.map(100, kit.anon(BASE, stuck=True))
    report = stock.full(placement(), seconds=300)[ONE]
    assert (report.state, report.reason) == ("Failed", "Failed")
    assert "could not be moved" in report.message
    assert 1 <= len([c for c in stock.machine.moves if c[1][0] >= BASE]) <= 12


def test_a_full_tier_is_told(stock, kit, placement):
    stock.machine.set_free(1, 0)
    report = stock.full(placement(), seconds=60)[ONE]
    assert (report.state, report.reason) == ("Failed", "TierFull")
    assert not stock.machine.moves


def test_the_first_node_with_room_is_filled_first(stock, kit, placement):
    machine = stock.machine
    machine.add_node(2, cpus="", tier=6, free_kb=8 << 20)
    machine.allowed = frozenset({0, 1, 2})
    machine.set_free(1, (64 << 10) + (4 << 10))
    machine.write(100)
    stock.machine.map(100, kit.anon(BASE, 32 * kit.MIB))
    stock.full(placement(rules=only(kit, tiers=("far",))), tiers=(FAR,))
    assert 0 not in on(machine, BASE)
    # 64 MiB stay free for others' page faults.
    moved = [nodes[0] for _, _, nodes, _ in machine.moves]
    assert moved[0] == 1 and moved[-1] == 2 and moved.count(2) >= 12


@pytest.mark.parametrize("mode", ["Interleave", "WeightedInterleave"])
def test_modes_that_interleave_spread_what_is_moved(stock, kit, placement, mode):
    machine = stock.machine
    machine.add_node(2, cpus="", tier=6)
    machine.allowed = frozenset({0, 1, 2})
    weights = machine.host.interleave_weights
    weights.mkdir(parents=True)
    for node, weight in ((0, 1), (1, 3), (2, 1)):
        (weights / f"node{node}").write_text(f"{weight}\n")
    machine.write(100)
    machine.map(100, kit.anon(BASE, 64 * kit.MIB))
    rules = only(kit, mode, ("far",), {"type": "Anonymous"})
    report = stock.full(placement(rules=rules), tiers=(FAR,))[ONE]
    assert report.state == "PlacedBestEffort", report.message
    share = 16 if mode == "Interleave" else 24
    assert on(machine, BASE) == {1: share << 9, 2: (32 - share) << 9}


@pytest.mark.parametrize("mode", ["Default", "Local"])
def test_modes_without_nodes_move_nothing(stock, kit, placement, mode):
    rules = [{"name": "r", "regions": [{"type": "Heap"}], "policy": {"mode": mode}}]
    assert stock.full(placement(rules=rules))[ONE].state == "PlacedBestEffort"
    assert not stock.machine.moves


def test_leave_moves_nothing(stock, kit, placement):
    assert stock.full(placement(rules=only(kit, existingPages="Leave")))[ONE].sticky is False
    assert not stock.machine.moves


def test_a_process_that_ends_meanwhile_is_no_trouble(stock, kit, placement):
    machine = stock.machine
    machine.start(101, A, kit.heap())

    def end():
        machine.on_move = None
        machine.end(100)

    machine.on_move = end
    assert stock.full(placement())[ONE].state == "PlacedBestEffort"
    assert on(machine, kit.HEAP, 101) == {1: 256}


def test_a_vast_reservation_is_searched_for_what_is_in_memory(stock, kit, placement):
    size = 1 << 40
    pages = [(-1, 1 << 27), (0, 2048), (-1, (size >> 12) - (1 << 27) - 2048)]
    vma = kit.anon(0x100000000000, size, pages={}).with_runs(pages)
    stock.machine.map(100, vma)
    report = stock.full(placement(rules=only(kit, entry={"type": "Anonymous"})), seconds=60)[ONE]
    assert on(stock.machine, 0x100000000000) == {1: 2048}, report
    assert report.state == "PlacedBestEffort"


@pytest.mark.parametrize("spec", [{}, {"onUnsupported": "Observe"}])
def test_who_does_not_want_it_any_more_is_let_alone_at_once(stock, kit, placement, spec):
    stock.bandwidth = 8 * kit.MIB
    stock.restart()
    stock.machine.map(100, kit.anon(BASE, 256 * kit.MIB))
    stock.full(placement(), seconds=2)
    before = len(stock.machine.moves)
    stock.full(kit.placement(**spec), seconds=30)
    assert before and len(stock.machine.moves) == before


def test_policies_from_better_days_are_left_where_they_are(started, kit):
    assert started.full(kit.placement())[ONE].state == "Placed"
    started.unsupported = SeccompFiltered(errno.ENOSYS, "hidden")
    started.restart()
    machine, before = started.machine, len(started.machine.calls)
    assert started.full(seconds=60) == {}
    assert len(machine.calls) == before and started.claims and not started.said
    assert machine.policies(100)["[heap]"] == kit.CXL
