# SPDX-License-Identifier: Apache-2.0
"""Claims of containers, shims and objects beside each other: each is given back as what it is."""

import pytest

from tests.support.agent.build import HEAP_RULE, new_pod
from tests.unit.agent_pkg.shim_ward import NAME, SHIM, ShimWard
from tests.unit.agent_pkg.test_birth import CXL_BOTH, A
from tests.unit.agent_pkg.test_shared import BUFFERS, buffers, rules


@pytest.fixture
def ward(node, kit):
    made = ShimWard(node, kit)
    yield made
    made.births.close()


@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.parametrize("is_retiring", [False, True])
def test_a_shim_an_object_and_a_container_are_each_given_back_as_what_they_are(
    ward, is_new, is_retiring
):
    ward.sandbox()
    ward.machine.start(100, A, ward.kit.heap(), buffers(), ppid=SHIM)
    ward.machine.map(100, ward.kit.anon(0x50000000))
    placement, pods = ward.kit.placement(rules=[HEAP_RULE, *rules()]), [new_pod("c0", ids=[A])]
    assert ward.looked(placement, pods=pods)[("mp", "p", "c0")].state == "Placed"
    names = {claim.container for claim in ward.node.claims}
    assert names == {A, NAME, "object-0.1.77"}
    assert [claim.container for claim in ward.shims] == [NAME]
    assert ward.future(SHIM) == CXL_BOTH and ward.machine.objects.ranges(BUFFERS)
    if is_new:
        ward.node.restart()
        ward.births = ward.node.engine.births
        assert {claim.container for claim in ward.node.claims} == names
    if is_retiring:
        assert ward.node.reconciler.undo_all() == (True, "")
    else:
        ward.looked(pods=pods)
    assert not ward.node.claims
    assert ward.future(SHIM) == ward.future(100) == {}
    assert ward.machine.objects.ranges(BUFFERS) == []
    assert set(ward.machine.policies(100).values()) == {None}


def test_a_shim_and_an_object_that_stay_keep_what_they_have(ward):
    ward.sandbox()
    ward.machine.start(100, A, ward.kit.heap(), buffers(), ppid=SHIM)
    placement, pods = ward.kit.placement(rules=[HEAP_RULE, *rules()]), [new_pod("c0", ids=[A])]
    ward.looked(placement, pods=pods)
    before, made = ward.node.claims, (len(ward.machine.calls), len(ward.machine.futures))
    ward.node.run(600)
    assert {each.container for each in ward.node.claims} == {each.container for each in before}
    assert (len(ward.machine.calls), len(ward.machine.futures)) == made
    assert ward.future(SHIM) == CXL_BOTH and ward.machine.objects.ranges(BUFFERS)
