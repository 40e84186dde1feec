# SPDX-License-Identifier: Apache-2.0
"""Containers that make cgroups of their own which can't be read, or too many: about them alone."""

import os
import shutil

import pytest
from memplace_agent.containers import members
from memplace_agent.containers.members import (
    MAX_CGROUPS,
    Unlisted,
    is_populated,
    known_pids,
    read_pids,
)

A, B = "a" * 64, "b" * 64
ONE, TWO = ("mp", "p", "c0"), ("mp", "p", "c1")


def hide(machine, container_id, pod="uid_p"):
    """Have nobody list the processes of a container, as after chmod 0 by a program in it."""
    scope = machine.cgroup(container_id, pod)
    (scope / "cgroup.procs").write_text("")
    (scope / "below/cgroup.procs").mkdir(parents=True)


def show(machine, container_id, *pids, pod="uid_p"):
    """List them again."""
    scope = machine.cgroup(container_id, pod)
    (scope / "below/cgroup.procs").rmdir()
    (scope / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


def crowd(machine, container_id, count):
    """Make so many cgroups in a container, two levels deep."""
    scope = machine.cgroup(container_id)
    (scope / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    for number in range(count // 64):
        for below in range(64):
            (scope / f"{number}/{below}").mkdir(parents=True)
    return scope


def test_all_that_can_be_read_is_found_and_the_rest_is_said(tmp_path):
    for name, pid in (("first", 1), ("hidden", 2), ("last", 3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").write_text(f"{pid}\n")
    assert read_pids(tmp_path) == known_pids(tmp_path) == {1, 2, 3}
    (tmp_path / "hidden/cgroup.procs").unlink()
    (tmp_path / "hidden/cgroup.procs").mkdir()
    with pytest.raises(Unlisted, match="/hidden: Is a directory") as raised:
        read_pids(tmp_path)
    assert raised.value.found == known_pids(tmp_path) == {1, 3}
    assert is_populated(tmp_path / "hidden"), "nobody knows"


def test_a_directory_that_can_not_be_read_hides_who_is_in_it(tmp_path, monkeypatch):
    """Whoever runs this may read everything, so the call itself is refused."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "cgroup.procs").write_text("1\n")
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("hidden"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(Unlisted, match="/hidden: Permission denied") as raised:
        read_pids(tmp_path)
    assert raised.value.found == {1}


def test_no_more_cgroups_are_read_than_asked_for(tmp_path):
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cgroup.procs").write_text(f"{number + 1}\n")
    assert len(read_pids(tmp_path, 21)) == 20
    assert len(known_pids(tmp_path, 5)) == 4
    with pytest.raises(Unlisted, match="more than 20 cgroups"):
        read_pids(tmp_path, 20)


def test_a_container_that_hides_its_processes_is_said_and_its_neighbour_placed(node, kit):
    node.machine.start(100, A, kit.heap())
    node.full(kit.placement(), pods=[kit.pod(ids="ab")])
    hide(node.machine, A)
    node.machine.start(200, B, kit.heap())
    reports = node.run(120)
    assert node.machine.policies(200)["[heap]"] == kit.CXL
    assert reports[TWO].state == "Placed"
    assert reports[ONE].state == "Failed" and "/below: Is a directory" in reports[ONE].message
    show(node.machine, A, 100)
    assert node.run(400)[ONE].state == "Placed"


def test_a_container_of_very_many_cgroups_is_said_and_costs_its_neighbours_little(
    node, kit, monkeypatch
):
    read, real = [], members._procs
    monkeypatch.setattr(members, "_procs", lambda path: (read.append(path), real(path))[1])
    crowd(node.machine, A, MAX_CGROUPS + 64)
    node.machine.start(200, B, kit.heap())
    reports = node.full(kit.placement(), pods=[kit.pod(ids="ab")])
    assert reports[TWO].state == "Placed"
    assert reports[ONE].state == "Failed"
    assert f"more than {MAX_CGROUPS} cgroups" in reports[ONE].message
    # What each beat pays for a container, and all others with it.
    read.clear()
    node.clock.now += 1000
    node.reconciler.audit()
    assert 0 < len(read) <= 128 + 1


def test_what_is_known_of_a_crowd_is_given_back_and_its_claim_kept(started, kit):
    started.full(kit.placement())
    scope = crowd(started.machine, A, MAX_CGROUPS + 64)
    started.full()
    assert started.machine.policies(100)["[heap]"] is None
    assert started.claims and f"more than {MAX_CGROUPS} cgroups" in started.said["mp"].message
    for number in range(MAX_CGROUPS // 64 + 1):
        shutil.rmtree(scope / str(number))
    started.run(400)
    assert not started.claims and not started.said


def test_a_container_that_hides_keeps_no_other_from_being_undone(node, kit):
    for pid, container in ((100, A), (200, B)):
        node.machine.start(pid, container, kit.heap())
    node.full(kit.placement(), pods=[kit.pod(ids="ab")])
    hide(node.machine, A)
    done, why = node.reconciler.undo_all()
    assert not done and "/below: Is a directory" in why
    assert node.machine.policies(200)["[heap]"] is None
    assert [claim.container for claim in node.claims] == [A]
    show(node.machine, A, 100)
    assert node.reconciler.undo_all() == (True, "")
    assert node.machine.policies(100)["[heap]"] is None


def test_an_error_nobody_thought_of_is_about_one_claim(node, kit, monkeypatch):
    for pid, container in ((100, A), (200, B)):
        node.machine.start(pid, container, kit.heap())
    pods = [kit.pod(ids="ab")]
    node.full(kit.placement(), pods=pods)
    undoer = type(node.reconciler._parts.undoer)
    real = undoer.undo

    def odd(one, claim, refs):
        if claim.container == A:
            raise ValueError("odd")
        return real(one, claim, refs)

    monkeypatch.setattr(undoer, "undo", odd)
    node.full(pods=pods)
    assert node.machine.policies(200)["[heap]"] is None
    assert node.said["mp"].reason == "Undoing" and "odd" in node.said["mp"].message
    done, why = node.reconciler.undo_all()
    assert not done and "odd" in why
    monkeypatch.setattr(undoer, "undo", real)
    assert node.reconciler.undo_all() == (True, "")
    assert node.machine.policies(100)["[heap]"] is None
