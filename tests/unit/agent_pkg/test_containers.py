# SPDX-License-Identifier: Apache-2.0
"""From container ids to cgroups and processes, on trees of directories with real names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.errors import ProcessGone
from memplace_agent.containers import members
from memplace_agent.containers import walk as walk_module
from memplace_agent.containers.index import CgroupIndex, Hierarchy, read_hierarchy
from memplace_agent.containers.members import is_below, is_populated, member_test, read_members
from memplace_agent.hostfs import HostFs

ID = "c0ffee00" * 8
OTHER = "a991ee00" * 8
UID = "2ca4a155-1b5f-4b9c-8d3e-0123456789ab"
SLICE = "pod" + UID.replace("-", "_") + ".slice"
NODE = "d6701ec289c56e4391acb11d07474b3139466857a305490575508a8b7a9fcf22"


def make(root, path, *pids):
    """Make a cgroup with processes."""
    directory = root / path.lstrip("/")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return directory


def indexed(root):
    index = CgroupIndex(root)
    index.refresh()
    return index


PLACES = [
    # containerd, CRI-O and cri-dockerd with the systemd driver
    f"kubepods.slice/kubepods-{SLICE}/cri-containerd-{ID}.scope",
    f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{SLICE}/crio-{ID}.scope",
    f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-{SLICE}/docker-{ID}.scope",
    # the cgroupfs driver
    f"kubepods/pod{UID}/{ID}",
    f"kubepods/burstable/pod{UID}/{ID}",
    f"kubepods/besteffort/pod{UID}/crio-{ID}",
    # kubelet --cgroup-root=/container.slice, --cgroup-root=/pods
    "container.slice/container-kubepods.slice/container-kubepods-burstable.slice/"
    f"container-kubepods-burstable-{SLICE}/cri-containerd-{ID}.scope",
    f"pods/kubepods/burstable/pod{UID}/{ID}",
    # kind, minikube with its docker driver, with podman, and rootless
    f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-{SLICE}/cri-containerd-{ID}.scope",
    f"docker/{NODE}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-{SLICE}/crio-{ID}.scope",
    f"docker/{NODE}/kubepods.slice/kubepods-{SLICE}/crio-{ID}.scope",
    f"docker/{NODE}/kubelet/kubepods/besteffort/pod{UID}/{ID}",
    f"system.slice/docker-{NODE}.scope/kubepods.slice/kubepods-{SLICE}/docker-{ID}.scope",
    f"machine.slice/libpod-{NODE}.scope/container/kubepods/pod{UID}/{ID}",
    "user.slice/user-1000.slice/user@1000.service/user.slice/"
    f"docker-{NODE}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-{SLICE}/"
    f"cri-containerd-{ID}.scope",
    # kubelet with the systemd driver, containerd without
    f"system.slice/containerd.service/kubepods-burstable-{SLICE}:cri-containerd:{ID}",
    # a runtime of tomorrow
    f"kubepods.slice/kubepods-{SLICE}/cri-next-{ID}.scope",
]


@pytest.mark.parametrize("place", PLACES)
def test_a_container_is_found_wherever_kubelet_and_the_runtime_put_it(tmp_path, place):
    make(tmp_path, "system.slice/containerd.service", 5)
    directory = make(tmp_path, place, 101)
    ref = indexed(tmp_path).find(ID, {UID})
    assert ref is not None
    assert (ref.path, ref.pod_uid) == (directory, UID)
    assert read_members(ref) == {101}


@pytest.mark.parametrize("place", PLACES)
def test_it_is_no_other_pods_container(tmp_path, place):
    make(tmp_path, place, 101)
    assert indexed(tmp_path).find(ID, {"00000000-1b5f-4b9c-8d3e-0123456789ab"}) is None


def test_a_static_pods_cgroup_is_named_for_the_hash_of_its_file(tmp_path):
    hash_ = "8a4bcdfa13a3b0b5e0a3ab9d7b1f1c2d"
    make(tmp_path, f"kubepods.slice/kubepods-pod{hash_}.slice/cri-containerd-{ID}.scope", 101)
    assert indexed(tmp_path).find(ID, {UID}) is None
    assert indexed(tmp_path).find(ID, {UID, hash_}) is not None


POD = f"kubepods.slice/kubepods-{SLICE}"
EVIL_SLICE = "kubepods-pod66666666_1b5f_4b9c_8d3e_0123456789ab.slice"
EVIL = f"kubepods.slice/{EVIL_SLICE}/cri-containerd-{OTHER}.scope"


@pytest.mark.parametrize(
    "planted",
    [
        f"{EVIL}/cri-containerd-{ID}.scope",
        f"{EVIL}/kubepods-{SLICE}/cri-containerd-{ID}.scope",
        f"{EVIL}/kubepods/pod{UID}/{ID}",
        f"{EVIL}/kubepods-{SLICE}:cri-containerd:{ID}",
        # in a container of the victim's own pod
        f"{POD}/cri-containerd-{OTHER}.scope/cri-containerd-{ID}.scope",
    ],
)
def test_a_name_planted_inside_a_container_is_not_taken(tmp_path, planted):
    make(tmp_path, planted, 666)
    assert indexed(tmp_path).find(ID, {UID}) is None
    victim = make(tmp_path, f"{POD}/cri-containerd-{ID}.scope", 101)
    ref = indexed(tmp_path).find(ID, {UID})
    assert ref is not None and ref.path == victim


@pytest.mark.parametrize("name", [f"crio-conmon-{ID}.scope", f"crio-conmon-{ID}", f"kata_{ID}"])
def test_what_a_runtime_runs_beside_a_container_is_not_the_container(tmp_path, name):
    make(tmp_path, f"{POD}/{name}", 7)
    assert indexed(tmp_path).find(ID, {UID}) is None


def test_podman_is_no_pod(tmp_path):
    directory = make(tmp_path, f"podman/kubepods/pod{UID}/{ID}", 101)
    ref = indexed(tmp_path).find(ID, {UID})
    assert ref is not None and ref.path == directory


def test_processes_in_groups_below_are_the_containers(tmp_path):
    make(tmp_path, f"{POD}/crio-{ID}.scope")
    make(tmp_path, f"{POD}/crio-{ID}.scope/container", 101, 102)  # crun's
    make(tmp_path, f"{POD}/crio-{ID}.scope/container/init.scope", 103, 0)
    ref = indexed(tmp_path).find(ID, {UID})
    assert ref is not None and read_members(ref) == {101, 102, 103}


def test_what_is_gone_is_forgotten_by_the_next_refresh(tmp_path):
    index = CgroupIndex(tmp_path)
    for number in range(50):
        scope = make(tmp_path, f"{POD}/cri-containerd-{number:064x}.scope")
        index.refresh()
        (scope / "cgroup.procs").unlink()
        scope.rmdir()
    index.refresh()
    assert len(index) == 0


def test_one_walk_serves_every_container(tmp_path, monkeypatch):
    for number in range(40):
        make(tmp_path, f"{POD}/cri-containerd-{number:064x}.scope/below/it")
    read = []
    real = walk_module._names
    monkeypatch.setattr(
        walk_module, "_names", lambda path, *rest: (read.append(path), real(path, *rest))[1]
    )
    index = indexed(tmp_path)
    for number in range(80):  # half of them are not there
        index.find(f"{number:064x}", {UID})
    # The root, kubepods.slice and the pod; no container is looked into.
    assert len(read) == 3


def test_a_tree_that_is_not_there_is_empty(tmp_path):
    assert len(indexed(tmp_path / "nothing")) == 0


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (["kubepods.slice"], Hierarchy.UNIFIED),
        (["cpuset", "memory", "systemd"], Hierarchy.LEGACY),
        (["cpuset", "memory", "systemd", "unified"], Hierarchy.HYBRID),
        (["cpu,cpuacct"], Hierarchy.LEGACY),
    ],
)
def test_the_kind_of_tree_is_told(tmp_path, made, expected):
    for name in made:
        (tmp_path / name).mkdir()
    assert read_hierarchy(tmp_path) is expected


def test_a_group_of_v2_may_have_the_name_of_a_controller(tmp_path):
    make(tmp_path, "memory", 1)
    (tmp_path / "cgroup.procs").write_text("")
    assert read_hierarchy(tmp_path) is Hierarchy.UNIFIED


def test_populated_is_one_read_for_any_number_of_processes(tmp_path, monkeypatch):
    scope = make(tmp_path, "scope", 1, 2)
    (scope / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    assert not is_populated(scope)
    (scope / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    monkeypatch.setattr(members, "read_pids", pytest.fail)
    assert is_populated(scope)


def test_a_group_that_is_gone_is_not_populated(tmp_path):
    assert not is_populated(tmp_path / "gone")
    assert is_populated(make(tmp_path, "without-events", 1))


# --- membership -----------------------------------------------------------------------------

CONTAINER = ("kubepods.slice", f"kubepods-{SLICE}", f"cri-containerd-{ID}.scope")
PATH = "/".join(CONTAINER)


@pytest.mark.parametrize(
    "line",
    [
        f"0::/{PATH}",
        f"0::/{PATH}/container/init.scope",
        # The reader has a cgroup namespace of its own: another pod's, one of another class,
        # the same pod's.
        f"0::/../../{'/'.join(CONTAINER[1:])}",
        f"0::/../../../{PATH}",
        f"0::/../{CONTAINER[2]}/container",
        # hybrid: lines of v1 say nothing
        f"4:memory:/x\n0::/{PATH}\n",
    ],
)
def test_a_process_of_the_container_is_one_however_its_path_is_shown(line):
    assert is_below(CONTAINER, line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "0::/",
        "0::/../..",
        "0::/init.scope",
        f"4:memory:/{PATH}",
        f"0::/{PATH} (deleted)",
        f"0::/{PATH}x",
        f"0::/{'/'.join(CONTAINER[:2])}",
        f"0::/../../{CONTAINER[1]}",
        f"0::/{EVIL}/{CONTAINER[2]}",
        f"0::/../../{EVIL_SLICE}/cri-containerd-{OTHER}.scope/{CONTAINER[2]}",
        f"0::/../../{EVIL_SLICE}/{PATH}",
        f"0::/{EVIL}/{PATH}",
        f"0::/../../{CONTAINER[1]}/cri-containerd-{OTHER}.scope/{CONTAINER[2]}",
        f"1:name=systemd:/x\n0::/{EVIL}\n0::/{PATH}",
    ],
)
def test_a_process_elsewhere_is_not_whatever_its_group_is_called(line):
    assert not is_below(CONTAINER, line)


segment = st.sampled_from([*CONTAINER, "a", "b"])


@given(st.lists(segment, max_size=5), st.data())
def test_hiding_what_reader_and_process_have_in_common_changes_no_answer(inside, data):
    # The reader is in a pod of its own: it and the process part above the pods' directories,
    # and no pod can choose what those are called.
    pod = data.draw(st.sampled_from([CONTAINER[1], "kubepods-pod-other.slice"]))
    below = "/".join([pod, *inside])
    whole = is_below(CONTAINER, f"0::/kubepods.slice/{below}")
    assert is_below(CONTAINER, f"0::/../../{below}") == whole


def test_membership_is_asked_of_the_process(tmp_path, monkeypatch):
    host = HostFs(proc=tmp_path / "proc", cgroup=tmp_path / "cgroup")
    make(host.cgroup, PATH, *range(100, 160))
    for pid in range(100, 160):
        host.pid(pid).mkdir(parents=True)
        (host.pid(pid) / "cgroup").write_text(f"0::/{PATH}\n")
    (host.pid(101) / "cgroup").write_text("0::/user.slice\n")
    reads = []
    real = members._procs
    monkeypatch.setattr(members, "_procs", lambda path: (reads.append(path), real(path))[1])
    ref = indexed(host.cgroup).find(ID, {UID})
    assert ref is not None
    is_member = member_test(host, ref)
    found = {pid for pid in read_members(ref) if is_member(pid)}
    assert found == set(range(100, 160)) - {101}
    assert len(reads) == 1
    with pytest.raises(ProcessGone):
        is_member(999)


@pytest.mark.skipif(not Path("/proc/self/cgroup").exists(), reason="needs /proc")
def test_the_running_kernels_own_line_is_understood():
    text = Path("/proc/self/cgroup").read_text()
    path = next(ln for ln in text.splitlines() if ln.startswith("0::")).removeprefix("0::/")
    assert is_below(tuple(path.split("/")), text)
