# SPDX-License-Identifier: Apache-2.0
"""A container that was born is there, whatever an old walk of the tree knows of it.

Where a walk takes long it is made again after up to 30 s, and the API server may need as long to
hear of a container: kubelet tells it of twenty at once when it can.
"""

import itertools
import shutil

import pytest

from tests.support.agent.build import HEAP_RULE, new_pod
from tests.unit.agent_pkg.test_birth import CXL_BOTH, A, Ward

C = "c" * 64


@pytest.fixture
def ward(node, kit):
    made = Ward(node, kit)
    # Each walk takes a second of the processor: the next one is 30 s later.
    made.node.reconciler._finder._cost = itertools.count().__next__
    yield made
    made.births.close()


def born_after_the_walk(ward, kit):
    """The tree is walked for a container that is not there, then A is made."""
    placement = kit.placement(rules=[HEAP_RULE])
    absent = new_pod("c1", ids=[C])
    ward.expect(pods=[absent])
    ward.node.run(1)
    ward.machine.start(100, A)
    ward.rounds()
    ward.machine.born(100, kit.anon(0x50000000))
    ward.end()
    return placement, absent


def test_its_claim_stays_until_the_api_server_knows_it(ward, kit):
    placement, absent = born_after_the_walk(ward, kit)
    ward.full(placement, pods=[absent])
    assert [claim.container for claim in ward.node.claims] == [A]


def test_it_is_given_back_with_its_placement(ward, kit):
    _, absent = born_after_the_walk(ward, kit)
    ward.full(pods=[absent])
    assert ward.future() == {} and set(ward.machine.policies(100).values()) == {None}
    assert not ward.node.claims


def test_it_is_found_by_its_first_look(ward, kit):
    placement, _ = born_after_the_walk(ward, kit)
    report = ward.node.full(placement, pods=[new_pod("c0", ids=[A])], seconds=3)[("mp", "p", "c0")]
    assert report.state == "Placed" and report.rules[0].own_regions == 0
    assert ward.future() == CXL_BOTH


def test_its_claim_ends_with_its_cgroup(ward, kit):
    placement, absent = born_after_the_walk(ward, kit)
    ward.machine.end(100)
    shutil.rmtree(ward.machine.cgroup(A))
    ward.full(placement, pods=[absent])
    assert not ward.node.claims
