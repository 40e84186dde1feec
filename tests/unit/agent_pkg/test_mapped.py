# SPDX-License-Identifier: Apache-2.0
"""Views of processes as regions, with policies from wherever the kernel tells them."""

from array import array
from dataclasses import replace
from pathlib import Path

import pytest
from memplace.kinds import Mode, Policy, RegionKind
from memplace_agent.procfs.mapped import regions_of, task_policy_of
from memplace_agent.procfs.numa_maps import parse_numa_maps
from memplace_agent.procfs.process import ProcessView
from memplace_agent.procfs.query import Way
from memplace_agent.procfs.vmas import MAX_VMAS, vmas_of
from memplace_agent.syscalls.views import Ended, RawClass, RawView, parse_maps

DATA = Path(__file__).parent / "data"
MAPS, NUMA = (DATA / "kinds.maps").read_text(), (DATA / "kinds.numa_maps").read_text()
DEFAULT = Policy(Mode.DEFAULT)
CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))


def view_of_text(numa=None, stacks=()):
    vmas = vmas_of(parse_maps(MAPS.encode(), MAX_VMAS))
    mappings = None if numa is None else {one.start: one for one in parse_numa_maps(numa)}
    return ProcessView(pid=1, way=Way.MAPS, vmas=vmas, numa=mappings, stacks=frozenset(stacks))


def test_own_is_what_differs_from_the_tasks():
    view = view_of_text(NUMA)
    assert task_policy_of(view) == DEFAULT
    regions = regions_of(view)
    assert {r.own for r in regions if r.policy == DEFAULT} == {False}
    assert {r.own for r in regions if r.policy != DEFAULT} == {True}
    bound = NUMA.replace(" default", " bind:0")
    assert task_policy_of(view_of_text(bound)) == Policy(Mode.BIND, frozenset({0}))


def test_without_policies_none_is_told():
    regions = regions_of(view_of_text())
    assert {(r.policy, r.own) for r in regions} == {(DEFAULT, False)}
    assert len(regions) == len(MAPS.splitlines())


def test_a_stack_of_a_thread_is_one_whatever_its_class():
    anonymous = [r for r in regions_of(view_of_text()) if r.kind is RegionKind.ANONYMOUS]
    one = anonymous[0].start
    kinds = {r.start: r.kind for r in regions_of(view_of_text(stacks=[one]))}
    assert kinds[one] is RegionKind.STACK
    assert kinds[anonymous[1].start] is RegionKind.ANONYMOUS


def test_what_is_not_wanted_is_not_made():
    asked = []

    def wanted(region):
        asked.append(region)
        return region.kind is RegionKind.FILE

    view = view_of_text()
    regions = regions_of(view, wanted)
    assert {r.kind for r in regions} == {RegionKind.FILE}
    assert len(asked) <= len(view.vmas.classes)


def queried(*classes):
    count = len(classes)
    view = RawView(
        Ended.COMPLETE,
        0,
        array("Q", range(0x1000, 0x1000 + count * 0x2000, 0x2000)),
        array("Q", range(0x2000, 0x2000 + count * 0x2000, 0x2000)),
        array("I", range(count)),
        classes,
        array("Q", bytes(8 * count)),
    )
    return regions_of(ProcessView(pid=1, way=Way.POLICY, vmas=vmas_of(view)))


def raw(policy=b"default", source=0, *, name=b"", page_size=4096, flags=b"rd wr mr mw me ac"):
    return RawClass(
        permissions=3,
        inode=0,
        device=(0, 0),
        page_size=page_size,
        unnamed=False,
        name=name,
        policy=policy,
        source=source,
        flags=flags,
    )


@pytest.mark.parametrize(
    ("policy", "source", "expected", "own"),
    [
        (b"default", 0, DEFAULT, False),
        (b"bind:0", 0, Policy(Mode.BIND, frozenset({0})), False),
        (b"bind:0", 1, Policy(Mode.BIND, frozenset({0})), True),
        (b"default", 1, DEFAULT, True),
        (b"prefer (many):1 home:1", 1, replace(CXL, home_node=1), True),
        (b"interleave:0-1", 2, Policy(Mode.INTERLEAVE, frozenset({0, 1})), True),
    ],
)
def test_with_procmap_query_the_kernel_says_whose_policy_it_is(policy, source, expected, own):
    (region,) = queried(raw(policy, source))
    assert (region.policy, region.own) == (expected, own)


def test_hugetlb_is_known_by_its_page_size_and_devices_by_their_flags():
    huge, device, plain = queried(
        raw(page_size=2 << 20, name=b"/mnt/any"), raw(flags=b"rd wr pf io", name=b"/x"), raw()
    )
    assert (huge.kind, huge.page_size) == (RegionKind.HUGETLB, 2 << 20)
    assert (device.special, plain.special) == (True, False)
