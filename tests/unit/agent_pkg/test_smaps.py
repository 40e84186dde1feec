# SPDX-License-Identifier: Apache-2.0
"""How much of its ranges others map, as this kernel says of processes that are there."""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import replace
from pathlib import Path

import pytest
from memplace.residency import Span
from memplace_agent.procfs.smaps import SMALL, shares

from tests.support.agent.machine import MIB
from tests.support.agent.shown import charge
from tests.unit.agent_pkg.test_counted_once import START, VALUES, data, held

PAGE = mmap.PAGESIZE
OWN = Path("/proc/self")
LARGE = SMALL // MIB + 64


def mapped(pages):
    """Map so many pages, of which all but the first and the last are a mapping of their own."""
    memory = mmap.mmap(-1, pages * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    # Without a hole before and behind, the kernel makes one mapping of neighbours that are alike.
    for hole in (start, start + (pages - 1) * PAGE):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(hole), PAGE, 0) == 0
    return memory, Span(start + PAGE, start + (pages - 1) * PAGE)


@pytest.fixture
def filled():
    memory, span = mapped(16)
    for page in range(1, 9):
        memory[page * PAGE] = 1
    return memory, span


@pytest.fixture
def child(filled):
    """A child that has written to the first of the pages, and what ends it."""
    memory, _ = filled
    (low, up), (down, high) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        memory[PAGE] = 2
        os.write(up, b".")
        os.read(down, 1)
        os._exit(0)
    os.read(low, 1)
    yield pid
    os.write(high, b".")
    os.waitpid(pid, 0)


def test_nothing_is_shared_without_a_child(filled):
    assert shares(OWN, [filled[1]]) == {0: 0.0, -1: 0.0}


def test_what_a_child_has_not_written_to_is_shared(filled, child):
    _, span = filled
    for directory in (OWN, Path(f"/proc/{child}")):
        assert shares(directory, [span]) == {0: 7 / 8, -1: 7 / 8}


def test_each_range_has_its_own_and_one_without_pages_none(filled, child):
    _, span = filled
    _memory, empty = mapped(6)
    spans = sorted([span, empty], key=lambda each: each.start)
    assert shares(OWN, spans) == {spans.index(span): 7 / 8, -1: 7 / 8}


def test_of_whom_it_cannot_be_told(filled):
    assert shares(Path("/proc/0"), [filled[1]]) is None
    assert shares(OWN, [filled[1]], most_text=100) is None


def test_programs_of_other_users_count_once_as_well_if_they_are_small(node, kit):
    node.machine.hides_pagemaps = True
    node.machine.start(100, "a" * 64, data(128))
    node.machine.fork(100, 101, "a" * 64)
    assert held(node, kit.placement(rules=[VALUES])) == {"values": 128 * MIB}


@pytest.mark.parametrize("written", [0, 128])
def test_of_larger_ones_the_account_of_the_cgroup_tells_how_much(node, kit, written):
    node.machine.hides_pagemaps = True
    node.machine.start(100, "a" * 64, data(LARGE))
    node.machine.fork(100, 101, "a" * 64)
    write(node.machine, 101, written)
    charge(node.machine, "a" * 64)
    found = held(node, kit.placement(rules=[VALUES]))["values"]
    assert found == pytest.approx((LARGE + written) * MIB, rel=0.01)


def test_without_an_account_each_has_its_own(node, kit):
    node.machine.hides_pagemaps = True
    node.machine.start(100, "a" * 64, data(LARGE))
    node.machine.fork(100, 101, "a" * 64)
    assert held(node, kit.placement(rules=[VALUES])) == {"values": 2 * LARGE * MIB}


def test_large_ones_that_were_not_forked_from_each_other_have_their_own(node, kit):
    node.machine.hides_pagemaps = True
    for pid in (100, 101):
        node.machine.start(pid, "a" * 64, data(LARGE))
    charge(node.machine, "a" * 64)
    assert held(node, kit.placement(rules=[VALUES])) == {"values": 2 * LARGE * MIB}


def write(machine, pid, mib):
    """The process writes to the first of its pages: they are its own then."""
    process = machine.processes[pid]
    index = next(i for i, vma in enumerate(process.vmas) if vma.start == START)
    whole = process.vmas[index]
    if mib:
        low = replace(whole.part(START, START + mib * MIB), origin=-pid)
        process.vmas[index : index + 1] = [low, whole.part(START + mib * MIB, whole.end)]
    machine.write(pid)


def test_what_such_a_child_writes_to_is_its_own(node, kit):
    node.machine.hides_pagemaps = True
    node.machine.start(100, "a" * 64, data(128))
    node.machine.fork(100, 101, "a" * 64)
    write(node.machine, 101, 32)
    assert held(node, kit.placement(rules=[VALUES])) == {"values": 160 * MIB}
