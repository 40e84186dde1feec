# SPDX-License-Identifier: Apache-2.0
"""Errors that nobody thought of, and what stays whole around them."""

import errno

import pytest
from memplace_agent.engine.hands import Hands
from memplace_agent.engine.objects import Objects

from tests.unit.agent_pkg.test_shared import BUFFERS, buffers, rules

A = "a" * 64
ONE = ("mp", "p", "c0")


def odd(*_, **__):
    raise ValueError("odd")


def failing(node, pid, err):
    """Have a process not be pinned from now on."""
    real = node.machine.pidfd_open

    def pidfd_open(asked):
        if asked == pid:
            raise err
        return real(asked)

    node.machine.pidfd_open = pidfd_open
    return real


@pytest.mark.parametrize(
    "err", [OSError(errno.EMFILE, "Too many open files"), ValueError("not a stat")], ids=str
)
def test_a_process_that_can_not_be_pinned_is_said_and_the_others_are_placed(started, kit, err):
    started.machine.start(101, A, kit.heap())
    failing(started, 100, err)
    report = started.full(kit.placement())[ONE]
    assert started.machine.policies(101)["[heap]"] == kit.CXL
    assert report.state == "Failed" and str(err.args[-1]) in report.message
    assert report.rules[0].bytes == kit.MIB  # of the other one


def test_what_is_known_of_a_process_is_kept_while_it_can_not_be_pinned(started, kit):
    started.machine.start(101, A, kit.heap())
    started.full(kit.placement())
    container = started.reconciler._state.followed[A].container
    before = container.identities
    real = failing(started, 100, OSError(errno.EMFILE, "Too many open files"))
    assert started.run(300)[ONE].state == "Failed"
    assert container.identities == before
    started.machine.pidfd_open = real
    assert started.run(600)[ONE].state == "Placed"
    failing(started, 100, OSError(errno.EMFILE, "Too many open files"))
    assert started.run(300)[ONE].state == "Failed"
    started.machine.end(100)
    assert started.run(600)[ONE].state == "Placed"
    assert len(container.identities) == 1


def test_pages_that_can_not_be_moved_back_keep_no_policy(started, kit, monkeypatch):
    started.full(kit.placement(onDelete="RestorePages"))
    monkeypatch.setattr(Hands, "measure", odd)
    started.full(seconds=30)
    assert set(started.machine.policies(100).values()) == {None}
    assert not started.claims and not started.said


def test_who_maps_an_object_gives_it_back_where_another_process_fails(node, kit, monkeypatch):
    for pid in (100, 101):
        node.machine.start(pid, A, buffers())
    node.full(kit.placement(rules=rules()), seconds=60)
    assert node.machine.objects.ranges(BUFFERS)
    real = Objects._mapped

    def mapped(objects, pinned, *rest):
        return odd() if pinned.pid == 100 else real(objects, pinned, *rest)

    monkeypatch.setattr(Objects, "_mapped", mapped)
    node.full(seconds=60)
    assert node.machine.objects.ranges(BUFFERS) == []
    assert "odd" in node.said["mp"].message
    monkeypatch.setattr(Objects, "_mapped", real)
    node.run(600)
    assert not node.claims and not node.said
