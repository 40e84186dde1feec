# SPDX-License-Identifier: Apache-2.0
"""Pods, and what their shims start, that are younger than the last walk through the cgroups."""

from dataclasses import replace

import pytest

from tests.unit.agent_pkg.shim_ward import SHIM, ShimWard
from tests.unit.agent_pkg.test_birth import A, B


@pytest.fixture
def ward(node, kit):
    made = ShimWard(node, kit)
    yield made
    made.births.close()


# In a large tree of cgroups the last walk may be half a minute old.
def walked_just_now(ward):
    ward.node.reconciler._finder._walk_at = ward.node.clock.now + 30


def test_retirement_finds_what_a_shim_started_since_the_last_walk(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    walked_just_now(ward)
    ward.machine.fork(SHIM, 100, A)
    for _ in range(3):
        done, why = ward.node.reconciler.undo_all()
    assert done, why
    assert ward.future(100) == ward.future(SHIM) == {} and not ward.node.claims


def test_retirement_finds_also_what_was_claimed_since_the_last_walk(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    ward.machine.fork(SHIM, 100, A)
    ward.looked(ward.placement)
    walked_just_now(ward)
    # As the thread of births does it.
    ward.machine.fork(SHIM, 101, B)
    ward.node.store.put(replace(ward.node.store.get(A), container=B))
    for _ in range(3):
        done, why = ward.node.reconciler.undo_all()
    assert done, why
    assert ward.future(101) == {} and not ward.node.claims


def test_so_does_the_end_of_a_placement(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    walked_just_now(ward)
    ward.machine.fork(SHIM, 100, A)
    ward.looked()
    assert ward.future(100) == ward.future(SHIM) == {} and not ward.node.claims


def test_a_shim_keeps_what_it_was_given_since_the_last_walk(ward):
    ward.looked(ward.placement)
    walked_just_now(ward)
    ward.rounds(2)
    ward.sandbox()
    ward.rounds()
    given = ward.future(SHIM)
    assert given
    ward.node.run(15)
    assert ward.future(SHIM) == given
    assert len(ward.shims) == 1
