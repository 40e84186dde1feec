# SPDX-License-Identifier: Apache-2.0
"""Why a container that runs has no process on the node, and when that is said."""

import pytest
from memplace.reasons import Reason
from memplace_agent.containers.absence import Absences, Sighting
from memplace_agent.containers.index import CgroupIndex, Hierarchy
from memplace_agent.containers.members import read_members
from memplace_agent.containers.sandbox import program_names, sandbox_pids, sandbox_program
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
        groups = index.pod_groups(UIDS)
        pids = sandbox_pids(groups, index.walk.strays, app_ids)
        if ref is not None and read_members(ref):
            self.absences.seen(APP)
            return None
        seen = Sighting(
            hierarchy=index.hierarchy,
            pod_has_cgroup=bool(groups),
            has_cgroups=any(group.containers for group in groups),
            sandbox=sandbox_program(self.host, pids) or "",
            others=program_names(self.host, pids),
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


# What is seen of the pod's other processes, and what that means once time has passed.
@pytest.mark.parametrize(
    ("pids", "comm", "expected"),
    [
        ([100], "vmm-next", Reason.SANDBOXED_RUNTIME),
        # pause runs on the host's kernel, so would the container.
        ([100], "pause", Reason.CGROUP_NOT_FOUND),
        ([100], "conmon", Reason.CGROUP_NOT_FOUND),
        # The pod runs, says the API, and nobody is here for it.
        ([], "", Reason.SANDBOXED_RUNTIME),
    ],
)
def test_an_unknown_sandbox_is_said_after_a_while(look, pids, comm, expected):
    look.group(f"{POD}/cri-containerd-{PAUSE}.scope", *pids)
    for pid in pids:
        look.process(pid, comm=comm)
    assert [look.reason(now) for now in (0, 29, 30)] == [Reason.PENDING, Reason.PENDING, expected]


def test_a_class_of_runtimes_tells_when_nothing_else_does(look):
    look.group(POD)
    look.reason(0, runtime_class="kata-remote")
    assert look.reason(30, runtime_class="kata-remote") is Reason.SANDBOXED_RUNTIME
    assert look.reason(30) is Reason.CGROUP_NOT_FOUND


def test_v2_without_the_memory_controller_is_said_after_a_while(look):
    # Mounted beside v1, which has all controllers.
    seen = Sighting(hierarchy=Hierarchy.UNIFIED, has_memory=False)
    reasons = [look.absences.judge(APP, seen, now).reason for now in (0, 30)]
    assert reasons == [Reason.PENDING, Reason.UNSUPPORTED_CGROUP]


def test_the_machine_of_another_container_in_a_literal_name_is_the_users_own(look):
    literal = "system.slice/containerd.service/kubepods-pod0f30.slice:cri-containerd:"
    look.group(f"{literal}{PAUSE}", 99)
    look.group(f"{literal}{SECOND}", 100)
    look.process(99, comm="pause")
    look.process(100, comm="qemu-system-x86")
    assert look.reason(0, app_ids=(APP, SECOND)) is Reason.PENDING


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
    absences, seen = Absences(), Sighting(hierarchy=Hierarchy.UNIFIED)
    absences.judge("a", seen, 0)
    absences.keep({"b"})
    absence = absences.judge("a", seen, 100)
    assert absence.reason is Reason.PENDING
