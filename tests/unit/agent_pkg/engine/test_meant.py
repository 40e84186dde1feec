# SPDX-License-Identifier: Apache-2.0
"""What calls are meant for, and what they hit instead."""

from __future__ import annotations

from typing import Any

import pytest
from memplace.claims import DEFAULT, Change
from memplace.kinds import RegionKind
from memplace.objects import ObjectId
from memplace.regions import Region
from memplace_agent.engine.meant import Meant

from tests.support.agent.machine import CXL

SEGMENT, OTHER = ObjectId(0, 1, 7), ObjectId(0, 1, 8)


def region(start, end, **kwargs: Any):
    return Region(**({"start": start, "end": end, "kind": RegionKind.ANONYMOUS} | kwargs))


def segment(start, end, *, of=SEGMENT, offset=0, shared=True):
    kind = RegionKind.SHARED if shared else RegionKind.FILE
    return region(start, end, kind=kind, shared=shared, object=of, offset=offset)


def change(start, end, policy=CXL):
    return Change(start=start, end=end, policy=policy)


MEANT = Meant(1, [region(0, 4), region(4, 8), segment(8, 16)])


@pytest.mark.parametrize(
    ("low", "high", "is_private"),
    [(0, 4, True), (1, 3, True), (2, 6, True), (9, 12, False), (6, 9, False), (20, 24, False)],
)
def test_a_part_of_private_memory_is_private(low, high, is_private):
    assert MEANT.is_private(change(low, high)) is is_private


@pytest.mark.parametrize(
    ("now", "is_there"),
    [
        ([segment(8, 16)], True),
        ([segment(8, 12), segment(12, 16, offset=4)], True),
        ([], True),  # the kernel says so
        ([segment(12, 16, offset=4)], True),
        ([segment(8, 16, offset=8)], False),
        ([segment(8, 16, of=OTHER)], False),
        ([segment(8, 12), segment(12, 16, of=OTHER, offset=4)], False),
        ([segment(8, 16, shared=False)], False),
        ([region(8, 16)], False),
    ],
)
def test_it_is_there_as_long_as_the_same_is_mapped(now, is_there):
    assert MEANT.is_there(change(8, 16), Meant(1, now)) is is_there


def test_what_was_never_read_is_not_there():
    assert not MEANT.is_there(change(32, 36), Meant(1, [region(32, 36)]))


def test_of_the_same_program_other_objects_may_have_got_it():
    now = Meant(1, [segment(0, 2), region(2, 8), segment(8, 16), segment(16, 20, of=OTHER)])
    assert MEANT.strays([change(0, 8), change(8, 16)], now) == [segment(0, 2)]


def test_of_another_program_all_may_have_got_it():
    now = Meant(2, [region(0, 8), segment(8, 16), region(16, 20)])
    assert MEANT.strays([change(0, 8), change(8, 16)], now) == list(now.regions[:2])


def test_what_got_no_policy_has_none():
    assert MEANT.strays([change(0, 8, DEFAULT)], Meant(2, [region(0, 8)])) == []
