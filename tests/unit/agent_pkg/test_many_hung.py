# SPDX-License-Identifier: Apache-2.0
"""One outage of a file system reaches the processes of many namespaces at once."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from memplace_agent.engine.pool import Pool
from msgspec import structs

NAMESPACES, EACH = 40, 3


def in_namespace(kit, number):
    """A placement of a namespace, and its pod of one container."""
    namespace, id_ = f"ns{number}", f"{number:064x}"
    placement = structs.replace(kit.placement(f"mp{number}"), namespace=namespace)
    pod = replace(kit.pod(f"p{number}", namespace=namespace), container_ids={"c0": id_})
    return placement, pod, id_


@pytest.fixture
def outage(node, kit):
    """A node where all processes of 40 namespaces hang until the test ends."""
    free = threading.Event()
    node.pool = Pool(size=2)
    node.start()
    node.reconciler._parts.looker.hands.surveyor.deadline_s = 0.02
    placements, pods = [], []
    for number in range(NAMESPACES):
        placement, pod, id_ = in_namespace(kit, number)
        for each in range(EACH):
            node.machine.start(1000 + 10 * number + each, id_, kit.heap(), pod=f"uid_p{number}")
        placements.append(placement)
        pods.append(pod)
    node.machine.on_read = lambda directory: int(directory.name) >= 1000 and free.wait(60)
    node.full(*placements, pods=pods, seconds=60)
    yield node
    free.set()


def more(node, kit, number, pid):
    """Start a container of one more namespace."""
    placement, pod, id_ = in_namespace(kit, number)
    node.machine.start(pid, id_, kit.heap(), pod=f"uid_p{number}")
    world = node.world
    return node.full(*world.placements, placement, pods=[*world.pods, pod], seconds=30)


def test_processes_that_hang_in_many_namespaces_stop_no_other_namespace(outage, kit):
    assert outage.pool.lost == 2 * NAMESPACES
    reports = more(outage, kit, NAMESPACES, 100)
    well = reports[f"mp{NAMESPACES}", f"p{NAMESPACES}", "c0"]
    assert (well.state, well.reason) == ("Placed", "Placed")
    assert outage.machine.policies(100)["[heap]"] == kit.CXL
    assert outage.machine.pages(100, kit.HEAP) == {1: 256}
    hung = {reports[f"mp{n}", f"p{n}", "c0"].reason for n in range(NAMESPACES)}
    assert hung == {"Stuck"}
    assert outage.pool.problem == ""


def test_where_no_thread_can_be_started_it_is_said_and_work_goes_on_once_one_can(
    outage, kit, monkeypatch
):
    real = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("pool-"):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for number in range(NAMESPACES, NAMESPACES + 2):  # each takes one of the last threads
        more(outage, kit, number, 1000 + 10 * number)
    number = NAMESPACES + 2
    report = more(outage, kit, number, 100)[f"mp{number}", f"p{number}", "c0"]
    assert (report.state, report.reason) == ("Failed", "Failed")
    assert "no thread can be started" in report.message and "podPidsLimit" in report.message
    assert "can't start new thread" in outage.pool.problem
    monkeypatch.undo()
    assert outage.run(30)[f"mp{number}", f"p{number}", "c0"].state == "Placed"
    assert outage.pool.problem == ""
