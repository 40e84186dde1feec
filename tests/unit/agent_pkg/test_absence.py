# SPDX-License-Identifier: Apache-2.0
"""Why a container that runs has no process on the node, and when that is said."""

import pytest
from memplace.reasons import Reason
from memplace_agent.containers.absence import (
    Absences,
    Sighting,
    sandbox_pids,
    sandbox_program,
)
from memplace_agent.containers.index import CgroupIndex, Hierarchy
from memplace_agent.containers.members import read_members
from memplace_agent.hostfs import HostFs

APP, PAUSE, SECOND = ("c0ffee00" * 8, "a991ee00" * 8, "beef0000" * 8)
POD = "kubepods.slice/kubepods-pod0f30.slice"
UIDS = {"0f30"}


class Look:
    """A node of files; `reason` is what a look at the app container says."""

    def __init__(self, root):
        self.host = HostFs(proc=root / "proc", cgroup=root / "cgroup")
        self.host.cgroup.mkdir()
        self.absences = Absences()

    def group(self, path, *pids):
        directory = self.host.cgroup / path
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def process(self, pid, *, comm="app", path=""):
        directory = self.host.pid(pid)
        directory.mkdir(parents=True)
        (directory / "comm").write_text(f"{comm}\n")
        (directory / "maps").write_text(f"7f0000000000-7f0000001000 rw-s 00000000 00:00 5 {path}\n")

    def absence(self, now, *, runtime_class="", app_ids=(APP,)):
        index = CgroupIndex(self.host.cgroup)
        index.refresh()
        ref = index.find(APP, UIDS)
        pods = index.pod_directories(UIDS)
        seen = Sighting(
            hierarchy=index.hierarchy,
            has_processes=ref is not None and bool(read_members(ref)),
            pod_has_cgroup=bool(pods),
            sandbox=sandbox_program(self.host, sandbox_pids(pods, app_ids)),
            runtime_class=runtime_class,
        )
        return self.absences.judge(APP, seen, now)

    def reason(self, now, **kwargs):
        absence = self.absence(now, **kwargs)
        return absence and absence.reason


@pytest.fixture
def look(tmp_path):
    return Look(tmp_path)


def test_a_container_with_processes_is_not_absent(look):
    look.group(f"{POD}/cri-containerd-{APP}.scope", 100)
    assert look.reason(0) is None


@pytest.mark.parametrize("extra", [(), ("unified",)])
def test_cgroup_v1_is_said_at_once(look, extra):
    for controller in ("cpuset", "memory", *extra):
        look.group(f"{controller}/{POD}/cri-containerd-{APP}.scope", 100)
    absence = look.absence(0)
    assert absence.reason is Reason.UNSUPPORTED_CGROUP
    assert "cgroup v2" in absence.message


SANDBOXES = [
    {"path": "/memfd:runsc-memory (deleted)"},
    {"comm": "runsc-sandbox"},
    {"path": "/memfd:ch_ram (deleted)"},
    {"comm": "qemu-system-x86"},
    {"path": "anon_inode:kvm-vcpu:0", "comm": "vmm-of-tomorrow"},
]


@pytest.mark.parametrize("process", SANDBOXES)
@pytest.mark.parametrize("app_has_a_group", [True, False])
def test_a_sandbox_in_the_pods_other_groups_is_said_at_once(look, process, app_has_a_group):
    look.group(f"{POD}/cri-containerd-{PAUSE}.scope", 100)
    if app_has_a_group:
        look.group(f"{POD}/cri-containerd-{APP}.scope")
    look.process(100, **process)
    absence = look.absence(0, runtime_class="kata")
    assert absence.reason is Reason.SANDBOXED_RUNTIME
    assert "runtimeClassName kata" in absence.message


def test_a_virtual_machine_that_a_container_runs_is_the_users_own(look):
    look.group(f"{POD}/cri-containerd-{PAUSE}.scope", 99)
    look.group(f"{POD}/cri-containerd-{SECOND}.scope", 100)
    look.process(99, comm="pause")
    look.process(100, comm="qemu-system-x86")
    assert look.reason(0, app_ids=(APP, SECOND)) is Reason.PENDING


def test_an_unknown_sandbox_is_said_after_a_while(look):
    look.group(f"{POD}/cri-containerd-{PAUSE}.scope", 100)
    look.process(100, comm="pause")
    assert [look.reason(now) for now in (0, 29, 30)] == [
        Reason.PENDING,
        Reason.PENDING,
        Reason.SANDBOXED_RUNTIME,
    ]


def test_a_pod_without_a_group_is_said_after_a_while(look):
    assert [look.reason(now) for now in (0, 29, 30)] == [
        Reason.PENDING,
        Reason.PENDING,
        Reason.CGROUP_NOT_FOUND,
    ]


def test_the_time_starts_anew_once_there_were_processes(look):
    assert look.reason(0) is Reason.PENDING
    look.group(f"{POD}/cri-containerd-{APP}.scope", 100)
    assert look.reason(20) is None
    look.group(f"{POD}/cri-containerd-{APP}.scope")
    assert look.reason(40) is Reason.PENDING
    assert look.reason(70) is Reason.SANDBOXED_RUNTIME


def test_a_process_that_ends_while_it_is_asked_is_skipped(look):
    look.group(f"{POD}/cri-containerd-{PAUSE}.scope", 100, 101)
    look.process(101, comm="firecracker")
    assert look.reason(0) is Reason.SANDBOXED_RUNTIME


def test_only_those_kept_are_remembered():
    absences, seen = Absences(), Sighting(hierarchy=Hierarchy.UNIFIED, has_processes=False)
    absences.judge("a", seen, 0)
    absences.keep({"b"})
    absence = absences.judge("a", seen, 100)
    assert absence is not None and absence.reason is Reason.PENDING
