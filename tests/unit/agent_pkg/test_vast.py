# SPDX-License-Identifier: Apache-2.0
"""Address space that is set aside and hardly used: what it costs, and what is said of it."""

import pytest

A = "a" * 64
ONE = ("mp", "p", "c0")
TIB = 1 << 40


@pytest.mark.parametrize("perms", ["rw-p", "---p"])
@pytest.mark.parametrize("mib", [4, 200, 4096])
def test_what_little_there_is_of_a_reservation_is_found_and_moved(node, kit, mib, perms):
    node.machine.start(100, A, kit.anon(TIB, 16 * TIB, perms=perms, pages={0: mib << 8}))
    report = node.full(kit.placement(), seconds=240)[ONE]
    assert node.machine.pages(100, TIB) == {1: mib << 8}
    assert report.state == "Placed"
    assert abs(report.rules[0].bytes - (mib << 20)) <= mib << 15  # 3 %


def test_memory_beside_a_reservation_is_known_as_if_that_were_not_there(node, kit):
    node.machine.start(
        100,
        A,
        kit.anon(TIB, 16 * TIB, perms="---p", pages={}),
        kit.anon(32 * TIB, 4 << 30, pages={0: 1 << 20}),
    )
    report = node.full(kit.placement(), seconds=240)[ONE]
    assert node.machine.pages(100, 32 * TIB) == {1: 1 << 20}
    assert (report.state, report.message) == ("Placed", "")
    assert abs(report.rules[0].bytes - (4 << 30)) <= 4 << 25
