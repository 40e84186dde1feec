# SPDX-License-Identifier: Apache-2.0
import pytest
from memplace.kinds import RegionKind
from memplace.regions import Region


def region(kind="Brk", **rest):
    return Region(start=0x10000, end=0x20000, kind=RegionKind(kind), **rest)


def test_what_lies_elsewhere():
    heap = region(pages={0: 5, 1: 7, 2: 11})
    assert heap.bytes_outside(frozenset({1})) == 16
    assert heap.bytes_outside(frozenset({0, 1, 2, 3})) == 0
    assert heap.bytes_outside(frozenset()) == 23


@pytest.mark.parametrize(
    ("permissions", "executable"), [("rw-", False), ("---", False), ("r-x", True), ("rwx", True)]
)
def test_the_last_letter_says_whether_it_can_be_run(permissions, executable):
    assert region(permissions=permissions).executable is executable


def test_pages_of_private_anonymous_memory_belong_to_the_process_alone():
    private = {k for k in RegionKind if region(k).private_anonymous}
    assert private == {RegionKind.BRK, RegionKind.ANONYMOUS, RegionKind.STACK}
    assert not any(region(k, shared=True).private_anonymous for k in RegionKind)
