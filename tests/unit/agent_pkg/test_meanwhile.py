# SPDX-License-Identifier: Apache-2.0
"""Nothing but what was read gets a policy or loses one, whatever is mapped there meanwhile."""

from dataclasses import replace

import pytest
from memplace.rebind import STATIC
from memplace_agent.procfs.query import Way
from memplace_agent.syscalls import MPOL_MF_PRIVATE_ANON

from tests.support.agent.machine import CXL, MIB
from tests.support.agent.mappings import DEFAULT

A = "a" * 64
ONE = ("mp", "p", "c0")
OURS = replace(CXL, flags=frozenset({STATIC}))
SEGMENT = ((0, 1), 9)
FIRST = 0x20000000


def swaps(node, kit):
    """Returns what puts a segment, which another pod may map, in the place of a mapping."""

    def swap():
        node.machine.unmap(100, FIRST)
        path, (device, inode) = "/dev/shm/x", SEGMENT
        shm = kit.Vma(FIRST, FIRST + MIB, path, "rw-s", inode, pages={0: 256}, device=device)
        node.machine.map(100, shm)
        node.machine.on_call = None

    return swap


def right_before_the_calls(node, act):
    """Acts when the ledger is written: between what was read and the calls."""

    def then_act(real):
        def put(claim):
            real(claim)
            if not node.machine.calls:
                act()

        return put

    node.store.put = then_act(node.store.put)
    node.store.put_for_undo = then_act(node.store.put_for_undo)


@pytest.mark.parametrize("undo", [False, True])
def test_what_is_mapped_over_a_region_meanwhile_is_not_touched(node, kit, undo):
    node.machine.start(100, A, kit.anon(FIRST))
    if undo:
        node.full(kit.placement())
        node.machine.calls.clear()
    node.machine.objects.set(SEGMENT, 0, MIB, kit.BIND)
    node.machine.on_call = swaps(node, kit)
    node.full(*([] if undo else [kit.placement()]))
    # It was not even set for a moment: there was nothing to give back.
    ((_, _, policy, flags),) = node.machine.calls
    assert policy == (DEFAULT if undo else OURS) and flags & MPOL_MF_PRIVATE_ANON
    assert node.machine.objects.ranges(SEGMENT) == [(0, MIB, kit.BIND)]
    assert bool(node.claims) is not undo


def a_file(kit, **kwargs):
    members = {"inode": 7, "pages": {0: 256}, "device": (8, 1)}
    return kit.Vma(FIRST, FIRST + MIB, "/lib/x.so", "rw-p", **(members | kwargs))


def of_files(kit):
    return kit.placement(rules=[kit.rule({"type": "File"}, "Bind", "cxl")])


@pytest.mark.parametrize("undo", [False, True])
def test_shared_memory_in_the_place_of_a_file_is_seen_before_the_call(node, kit, undo):
    node.machine.start(100, A, a_file(kit))
    if undo:
        node.full(of_files(kit))
        node.machine.calls.clear()
    node.machine.objects.set(SEGMENT, 0, MIB, kit.BIND)
    right_before_the_calls(node, swaps(node, kit))
    node.full(*([] if undo else [of_files(kit)]))
    assert node.machine.calls == []
    assert node.machine.objects.ranges(SEGMENT) == [(0, MIB, kit.BIND)]


@pytest.mark.parametrize("way", list(Way))
def test_shared_memory_in_the_place_of_a_file_loses_what_it_got(node, kit, caplog, way):
    """No flag of the call says "a file": what comes in the last moment is seen after it."""
    node.way = way
    node.start()
    node.machine.start(100, A, a_file(kit))
    node.machine.on_call = swaps(node, kit)
    found = node.full(of_files(kit), seconds=0.5)[ONE]
    assert [policy.mode for _, _, policy, _ in node.machine.calls] == ["Bind", "Default"]
    assert node.machine.objects.ranges(SEGMENT) == []
    assert "taken back" in caplog.text and "mapped shared memory over" in found.message
    assert node.run(120)[ONE].reason != "Failed"


@pytest.mark.parametrize("is_early", [False, True])
def test_a_kernel_that_cannot_tell_private_memory_is_watched(node, kit, is_early):
    node.flags = 0x77
    node.start()
    node.machine.start(100, A, kit.anon(FIRST))
    if is_early:
        node.machine.objects.set(SEGMENT, 0, MIB, kit.BIND)
        right_before_the_calls(node, swaps(node, kit))
    else:
        node.machine.on_call = swaps(node, kit)
    node.full(kit.placement())
    assert len(node.machine.calls) == (0 if is_early else 2)
    had = [(0, MIB, kit.BIND)] if is_early else []
    assert node.machine.objects.ranges(SEGMENT) == had


def buffers(node, kit):
    """A process whose shared memory is to be placed, and a pod with a segment of its own."""
    shm = kit.Vma(FIRST, FIRST + MIB, "/dev/zero (deleted)", "rw-s", 77, device=(0, 1))
    node.machine.start(100, A, replace(shm, pages={0: 256}))
    theirs = kit.Vma(FIRST, FIRST + MIB, "/dev/shm/x", "rw-s", SEGMENT[1], device=SEGMENT[0])
    node.machine.start(300, "c" * 64, theirs, pod="uid_q")
    return kit.placement(rules=[kit.rule({"type": "Shared"}, "PreferredMany", "cxl")])


def test_another_object_in_its_place_is_seen_before_the_call(node, kit):
    wanted = buffers(node, kit)
    node.machine.objects.set(SEGMENT, 0, MIB, kit.BIND)
    right_before_the_calls(node, swaps(node, kit))
    node.full(wanted)
    assert node.machine.calls == []
    assert node.machine.objects.ranges(SEGMENT) == [(0, MIB, kit.BIND)]


@pytest.mark.parametrize("number", [1, 2])
def test_another_object_in_its_place_loses_what_it_got(node, kit, number):
    """Each object is set in two calls; the first one sets what is there already."""
    wanted, swap = buffers(node, kit), swaps(node, kit)
    node.machine.on_call = lambda: len(node.machine.calls) == number - 1 and swap()
    node.full(wanted)
    made = [policy for *_, policy, _ in node.machine.calls]
    assert made == [DEFAULT, OURS, DEFAULT][: 2 * number - 1]
    assert node.machine.objects.ranges(SEGMENT) == []
