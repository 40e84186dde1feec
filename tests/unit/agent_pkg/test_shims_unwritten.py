# SPDX-License-Identifier: Apache-2.0
"""Shims are given back though the ledger can't be written, and nothing is forgotten meanwhile."""

import errno

import pytest

from tests.unit.agent_pkg.shim_ward import NAME, SHIM, ShimWard
from tests.unit.agent_pkg.test_birth import CXL_BOTH, A
from tests.unit.agent_pkg.test_hidden import hide, show


@pytest.fixture
def ward(node, kit):
    """A shim that has started a program which no claim knows of."""
    made = ShimWard(node, kit)
    made.sandbox()
    made.looked(made.placement)
    made.machine.fork(SHIM, 100, A)
    assert made.future(SHIM) == made.future(100) == CXL_BOTH
    yield made
    made.births.close()


@pytest.fixture
def full(ward, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(ward.node.store.directory), "replace", no_space)
        yield patch


def on_disk(ward):
    return {file.name.split(".")[0] for file in ward.machine.host.journal.glob("*.json")}


def test_retirement_gives_a_shim_and_what_it_started_back_on_a_full_run(ward, full):
    for _ in range(3):
        done, why = ward.node.reconciler.undo_all()
    assert done, why
    assert ward.future(100) == ward.future(SHIM) == {} and not ward.node.claims


def test_so_does_the_end_of_a_placement(ward, full):
    ward.looked()
    ward.node.run(60)
    assert ward.future(100) == ward.future(SHIM) == {} and not ward.node.claims


def test_the_claim_of_a_shim_is_kept_while_nothing_else_on_disk_knows_what_it_started(ward, full):
    done, why = ward.node.reconciler.undo_all()
    assert not done and "can't be written" in why
    assert ward.future(SHIM) == {} and ward.future(100) == CXL_BOTH
    assert on_disk(ward) == {NAME}
    full.undo()
    ward.node.restart()
    ward.looked()
    assert ward.future(100) == {} and not ward.node.claims


def test_a_claim_that_could_not_be_written_is_written_before_the_shims_is_dropped(ward, full):
    ward.node.reconciler.undo_all()
    full.undo()
    (claim,) = ward.shims
    assert ward.node.reconciler._ending.undo(claim)
    assert on_disk(ward) == {A} and not ward.shims


def test_who_hides_in_the_pod_may_have_the_default_and_gets_a_claim(ward):
    hide(ward.machine, A)
    done, why = ward.node.reconciler.undo_all()
    assert not done
    assert ward.future(SHIM) == {} and [claim.container for claim in ward.node.claims] == [A]
    show(ward.machine, A, 100)
    for _ in range(2):
        done, why = ward.node.reconciler.undo_all()
    assert done, why
    assert ward.future(100) == {}
