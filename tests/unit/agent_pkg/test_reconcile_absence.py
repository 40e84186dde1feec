# SPDX-License-Identifier: Apache-2.0
"""A container that runs, says the API, and is not to be seen: what is said, and what is kept."""

import shutil

import pytest

ONE = ("mp", "p", "c0")


def test_a_node_with_cgroup_v1_is_said(started, kit):
    root = started.machine.host.cgroup
    shutil.rmtree(root / "kubepods.slice")
    for controller in ("cpuset", "memory"):
        (root / controller).mkdir()
    report = started.full(kit.placement())[ONE]
    assert (report.state, report.reason) == ("Unsupported", "UnsupportedCgroup")


def test_processes_that_the_agent_does_not_see_are_said_after_a_while(started, kit):
    # Without hostPID cgroup.procs has a 0 for each of them.
    scope = started.machine.cgroup("a" * 64)
    (scope / "cgroup.procs").write_text("0\n")
    (scope / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    assert started.full(kit.placement(), seconds=20)[ONE].state == "Pending"
    report = started.run(60)[ONE]
    assert (report.state, "hostPID" in report.message) == ("Failed", True)


def test_processes_that_are_shown_elsewhere_are_said_after_a_while(started, kit):
    (started.machine.host.pid(100) / "cgroup").write_text("0::/elsewhere\n")
    assert started.full(kit.placement(), seconds=20)[ONE].state == "Pending"
    report = started.run(60)[ONE]
    assert (report.state, "/proc" in report.message) == ("Failed", True)


def test_a_container_that_was_looked_for_once_is_given_its_time_again(node, kit):
    node.machine.cgroup("a" * 64)
    assert node.full(kit.placement())[ONE].state == "Pending"
    node.machine.start(100, "a" * 64, kit.heap())
    assert node.run(60)[ONE].state == "Placed"
    node.machine.end(100)
    assert node.run(5)[ONE].state == "Pending"


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_tree_of_cgroups_that_can_not_be_read_ends_no_claim(started, kit, is_deleted):
    before = started.machine.policies(100)
    started.full(kit.placement())
    root = started.machine.host.cgroup
    hidden = root.rename(root.parent / "hidden")
    placements = () if is_deleted else (kit.placement(),)
    started.full(*placements, pods=[], seconds=60)
    assert len(started.claims) == 1
    hidden.rename(root)
    started.full(pods=[], seconds=60)
    assert not started.claims
    assert started.machine.policies(100) == before


def test_a_container_behind_a_kernel_of_its_own_is_said_after_a_while(node, kit):
    node.machine.cgroup("f" * 64)  # the pod is there, the container is not
    assert node.full(kit.placement())[ONE].state == "Pending"
    report = node.run(60)[ONE]
    assert (report.state, report.reason) == ("Unsupported", "SandboxedRuntime")
