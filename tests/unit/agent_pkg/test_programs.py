# SPDX-License-Identifier: Apache-2.0
"""What a runtime runs for a pod is read without waiting for who holds its address space."""

import threading
from dataclasses import replace

import pytest
from memplace_agent.containers import sandbox
from memplace_agent.containers.sandbox import sandbox_program
from memplace_agent.engine.pool import Pool
from memplace_agent.engine.quarantine import Quarantine

from tests.support.agent.build import new_pod
from tests.unit.agent_pkg.shim_ward import SHIM, ShimWard
from tests.unit.agent_pkg.test_birth import CXL_BOTH, PAUSE

A, B = "a" * 64, "b" * 64


class Holder:
    """Has reads of a process's cmdline and maps not come back before the test lets them."""

    def __init__(self, monkeypatch):
        self.free, self.held, self.reads = threading.Event(), set(), []
        self._real = sandbox._read
        monkeypatch.setattr(sandbox, "_read", self._read)

    def _read(self, path):
        if path.parent.name in self.held and path.name in ("cmdline", "maps"):
            self.reads.append(path)
            self.free.wait(30)
        return self._real(path)


@pytest.fixture
def holder(node, monkeypatch):
    holder = Holder(monkeypatch)
    node.pool = Pool(size=2, quarantine=Quarantine(first_s=0.0))
    yield holder
    holder.free.set()


@pytest.fixture
def ward(node, kit, holder):
    made = ShimWard(node, kit)
    node.reconciler._parts.shims.deadline_s = 0.05
    made.sandbox()
    yield made
    made.births.close()


def test_a_process_beside_the_containers_that_hangs_keeps_nobody_waiting(node, kit, holder):
    node.start()
    node.reconciler._finder._guard.deadline_s = 0.05
    node.machine.cgroup(A)
    node.machine.start(50, PAUSE, comm="app")
    node.machine.start(200, B, kit.heap(), pod="uid_q")
    holder.held = {"50"}
    pods = [kit.pod(), kit.pod("q", ids="b")]
    reports = node.full(kit.placement(), pods=pods)
    assert reports["mp", "q", "c0"].state == "Placed"
    assert reports["mp", "p", "c0"].state == "Pending"
    assert node.pool.lost == 1
    node.run(60)
    assert node.reports()["mp", "p", "c0"].reason == "SandboxedRuntime", "as its name says"
    assert len(holder.reads) == 1, "nobody asks again while one waits"


def test_a_sandbox_that_hangs_gives_its_shim_no_default_until_it_is_known(ward, holder):
    holder.held = {"50"}
    ward.looked(ward.placement)
    assert ward.future(SHIM) == {} and not ward.shims
    assert ward.node.pool.lost == 1
    holder.free.set()
    holder.held = set()
    while ward.node.pool.lost:
        threading.Event().wait(0.001)
    ward.node.run(300)
    assert ward.future(SHIM) == CXL_BOTH


def test_a_shim_keeps_its_default_while_its_sandbox_hangs(ward, holder):
    ward.looked(ward.placement)
    holder.held = {"50"}
    ward.node.run(300)
    assert holder.reads and ward.future(SHIM) == CXL_BOTH and len(ward.shims) == 1
    ward.looked()
    assert ward.future(SHIM) == {} and not ward.node.claims


def test_a_sandbox_that_hangs_keeps_no_container_from_its_default(node, kit, holder):
    ward = ShimWard(node, kit)
    other = new_pod("c0")
    other = replace(other, ref=replace(other.ref, name="q", uid="uid-q"))
    ward.expect(pods=[new_pod(), other])
    holder.held = {"50"}
    ward.sandbox()
    node.machine.start(60, "6" * 64, pod="uid_q", comm="pause", ppid=1)
    node.machine.start(200, B, pod="uid_q")
    ward.rounds(12)
    assert ward.future(200) == CXL_BOTH
    assert ward.future(SHIM) == {} and node.pool.lost == 1
    ward.births.close()


def test_what_is_not_known_is_no_sandbox_and_not_none(node):
    for pid, comm in ((50, "pause"), (51, "qemu-system-x86")):
        node.machine.start(pid, PAUSE, comm=comm)
    host = node.machine.host

    def guard(pid, group, read):
        assert group == "ns"
        return None if pid == 50 else read()

    assert sandbox_program(host, [50, 51], "ns", guard) == "a virtual machine (QEMU)"
    assert sandbox_program(host, [50], "ns", guard) is None
    assert sandbox_program(host, [50]) == ""
