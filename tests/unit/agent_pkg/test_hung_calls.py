# SPDX-License-Identifier: Apache-2.0
"""A process that locks its address space, at each kind of call that waits for it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from memplace.errors import FeatureUnavailable
from memplace_agent.engine import build, hands, measure
from memplace_agent.engine.pool import Pool
from memplace_agent.engine.quarantine import Quarantine
from memplace_agent.syscalls import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL
from msgspec import structs

from tests.unit.agent_pkg.test_watch import eventually

BAD, SIBLING, NEIGHBOUR, OTHER = 100, 101, 200, 300
A, B, C = "a" * 64, "b" * 64, "c" * 64
ONE, TWO, THREE = ("mp", "p", "c0"), ("mp", "p", "c1"), ("other", "q", "c0")
MOVES = MPOL_MF_MOVE | MPOL_MF_MOVE_ALL


class Hang:
    """Calls of one kind on process 100 that wait until they are let go, and do their work then."""

    def __init__(self, machine, where, pool):
        self.where, self.pool, self.go = where, pool, threading.Event()
        self.machine, self.waits = machine, 0
        self.real = machine.process_mbind, machine.page_nodes, machine.move_pages
        machine.on_read = lambda directory: self.at("read", int(directory.name))
        machine.process_mbind = self.process_mbind
        machine.page_nodes = self.page_nodes
        machine.move_pages = self.move_pages

    def at(self, where, pid):
        if where == self.where and pid == BAD and not self.go.is_set():
            self.waits += 1
            assert self.go.wait(60)

    def process_mbind(self, pidfd, ranges, policy, flags):
        self.at("move" if flags & MOVES else "policy", self.machine._of(pidfd)[0])
        return self.real[0](pidfd, ranges, policy, flags)

    def page_nodes(self, pid, addresses):
        self.at("sample", pid)
        return self.real[1](pid, addresses)

    def move_pages(self, pid, *args, **kwargs):
        self.at("move_pages", pid)
        return self.real[2](pid, *args, **kwargs)

    def let_go(self):
        self.go.set()
        eventually(lambda: self.pool.lost == 0)


@pytest.fixture(params=["read", "policy", "sample", "move", "move_pages"])
def hung(node, kit, monkeypatch, request):
    """A node where one call on process 100 has not returned, and all else was done."""
    for module, name in (
        (hands, "_DEADLINE_S"),
        (measure, "_DEADLINE_S"),
        (build, "MOVE_DEADLINE_S"),
    ):
        monkeypatch.setattr(module, name, 0.1)
    node.pool = Pool(quarantine=Quarantine(first_s=0.0))
    hang = Hang(node.machine, request.param, node.pool)
    if request.param == "move_pages":
        node.unsupported = FeatureUnavailable(0, "no process_mbind")
    node.start()
    node.reconciler._parts.looker.hands.surveyor.deadline_s = 0.1
    for pid, id_, pod in ((BAD, A, "p"), (SIBLING, A, "p"), (NEIGHBOUR, B, "p"), (OTHER, C, "q")):
        node.machine.start(pid, id_, kit.heap(), pod=f"uid_{pod}")
    node.full(*placements(node, kit), pods=pods(kit), seconds=30)
    node.hang = hang
    yield node
    hang.go.set()


def placements(node, kit):
    how = {"onUnsupported": "BestEffort"} if node.unsupported else {}
    return kit.placement(**how), structs.replace(kit.placement("other", **how), namespace="ns2")


def pods(kit):
    other = replace(kit.pod("q", namespace="ns2"), container_ids={"c0": C})
    return [kit.pod(ids="ab"), other]


def placed(node):
    return "PlacedBestEffort" if node.unsupported else "Placed"


def on_cxl(node, pid):
    return node.machine.pages(pid, 0x10000000) == {1: 256}


def test_it_is_said_and_all_others_are_placed(hung):
    assert hung.hang.waits == hung.pool.lost == 1
    reports = hung.reports()
    assert (reports[ONE].state, reports[ONE].reason) == ("Failed", "Stuck")
    assert reports[TWO].state == reports[THREE].state == placed(hung)
    assert all(on_cxl(hung, pid) for pid in (SIBLING, NEIGHBOUR, OTHER))
    hung.run(120)
    assert hung.hang.waits == 1  # it is not called again while that call is under way


def test_others_get_back_what_they_had_meanwhile(hung, kit):
    mine, _ = placements(hung, kit)
    hung.full(mine, pods=pods(kit), seconds=60)
    assert set(hung.machine.policies(OTHER).values()) == {None}
    assert {claim.container for claim in hung.claims} <= {A, B}
    hung.full(pods=pods(kit), seconds=60)
    for pid in (SIBLING, NEIGHBOUR):
        assert set(hung.machine.policies(pid).values()) == {None}
    assert {claim.container for claim in hung.claims} <= {A}
    if hung.hang.where in ("policy", "move"):
        assert hung.claims  # what the call does when it comes back has to be undone


def test_a_call_that_comes_back_late_is_followed_by_what_was_left(hung):
    before = len(hung.machine.calls), len(hung.machine.moves)
    hung.hang.let_go()
    reports = hung.run(60)
    assert {each.state for each in reports.values()} == {placed(hung)}
    assert on_cxl(hung, BAD)
    calls = hung.machine.calls[before[0] :]
    assert {call[0] for call in calls} <= {BAD}
    policies = [
        ranges for pid, ranges, _, flags in hung.machine.calls if pid == BAD and not flags & MOVES
    ]
    assert len(policies) == (0 if hung.unsupported else 1)
    moved = hung.machine.moves[before[1] :]
    pages = [page for pid, found, _, _ in moved for page in found]
    assert len(pages) == len(set(pages)) and {each[0] for each in moved} <= {BAD}


def test_a_call_that_comes_back_after_its_placement_went_leaves_nothing(hung, kit):
    hung.full(pods=pods(kit), seconds=60)
    hung.hang.let_go()
    made = len(hung.machine.moves)
    hung.run(120)
    assert set(hung.machine.policies(BAD).values()) == {None}
    assert not hung.claims and not hung.said
    assert len(hung.machine.moves) == made and not hung.mover.progress()


def test_another_agent_undoes_what_came_back_late(hung, kit):
    """It knows of the call by the ledger alone."""
    hung.restart()
    hung.hang.let_go()
    hung.full(pods=pods(kit), seconds=120)
    assert set(hung.machine.policies(BAD).values()) == {None}
    assert not hung.claims
