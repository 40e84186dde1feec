# SPDX-License-Identifier: Apache-2.0
"""Containers' cgroups are heard of when they are made: real inotify, on directories as drivers
make them and on a real tree of v2."""

import contextlib
import os
import select
import subprocess
import time
from pathlib import Path

import pytest
from memplace_agent.containers.elders import has_elder
from memplace_agent.containers.events import CgroupEvents
from memplace_agent.containers.place import Place

from tests.support.cgroups import tree

UID = "0b6e2c4a-1d5f-4b7e-9a3c-8d2f1e0a7b6c"
SYSTEMD = (
    f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice"
)
A, B = "a" * 64, "b" * 64

PODS_OF = {
    "systemd": (SYSTEMD, f"cri-containerd-{A}.scope"),
    "systemd, CRI-O": (SYSTEMD, f"crio-{A}.scope"),
    "cgroupfs": (f"kubepods/besteffort/pod{UID}", A),
    "cgroupfs, guaranteed": (f"kubepods/pod{UID}", A),
    "kind": (
        f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID.replace('-', '_')}.slice",
        f"cri-containerd-{A}.scope",
    ),
    "k3s in a slice": (f"k3s.slice/kubepods/burstable/pod{UID}", f"cri-containerd-{A}.scope"),
}


@pytest.fixture
def events(tmp_path):
    made = CgroupEvents(tmp_path, None)
    yield made
    made.close()


def told(events):
    return [(born.container_id, born.ref.pod_uid) for born in events.read()]


@pytest.mark.parametrize(("pod", "container"), PODS_OF.values(), ids=PODS_OF)
@pytest.mark.parametrize("is_new", [True, False], ids=["new pod", "pod that is there"])
def test_a_container_is_heard_of_whoever_made_it(tmp_path, events, pod, container, is_new):
    path = tmp_path / pod
    (path.parent if is_new else path).mkdir(parents=True)
    events.open()
    assert told(events) == []
    path.mkdir(exist_ok=True)
    (path / container).mkdir()
    assert told(events) == [(A, UID)]
    assert told(events) == []


def test_one_whose_pod_and_container_are_one_directory(tmp_path, events):
    (tmp_path / "kubepods").mkdir()
    events.open()
    (tmp_path / f"kubepods/kubepods-burstable-pod{UID}.slice:cri-containerd:{A}").mkdir()
    assert told(events) == [(A, UID)]


ONE = ("kubepods", f"kubepods-burstable-pod{UID}.slice:cri-containerd:{A}")


@pytest.mark.parametrize(("pod", "container"), [*PODS_OF.values(), ONE], ids=[*PODS_OF, "one"])
@pytest.mark.parametrize("is_read", [True, False], ids=["read", "not read"])
def test_one_that_was_named_is_found(tmp_path, events, pod, container, is_read):
    (tmp_path / pod).mkdir(parents=True)
    if (pod, container) == ONE:
        (tmp_path / pod / container).mkdir()
    events.open()
    (tmp_path / pod / container).mkdir(exist_ok=True)
    if is_read:
        told(events)
    born = events.find(UID, A)
    assert (born.container_id, born.ref.pod_uid) == (A, UID)
    assert born.ref.path == tmp_path / pod / container and born.inode


@pytest.mark.parametrize(
    ("uid", "container_id"), [(UID, B), ("u", A), (UID, ""), (UID, "a"), (UID, f"../{A}")]
)
def test_what_is_not_there_is_not_found(tmp_path, events, uid, container_id):
    (tmp_path / SYSTEMD / f"crio-{A}.scope").mkdir(parents=True)
    (tmp_path / SYSTEMD / f"crio-conmon-{B}.scope").mkdir(parents=True)
    events.open()
    assert events.find(uid, container_id) is None


def test_a_class_of_service_that_is_made_later_is_watched(tmp_path, events):
    (tmp_path / "kubepods.slice").mkdir()
    events.open()
    (tmp_path / SYSTEMD / f"cri-containerd-{A}.scope").mkdir(parents=True)
    assert told(events) == [(A, UID)]


@pytest.mark.parametrize(
    "name", [f"crio-conmon-{A}.scope", f"kata_{A}", "init.scope", "c0ffee", f"x{A}"]
)
def test_what_is_no_container_is_not_told(tmp_path, events, name):
    pod = tmp_path / SYSTEMD
    pod.mkdir(parents=True)
    events.open()
    (pod / name).mkdir()
    assert told(events) == []


def test_what_is_inside_a_container_is_not_told(tmp_path, events):
    container = tmp_path / SYSTEMD / f"cri-containerd-{A}.scope"
    container.mkdir(parents=True)
    events.open()
    inner = container / SYSTEMD / f"cri-containerd-{B}.scope"
    inner.mkdir(parents=True)
    assert told(events) == []


def test_pods_of_another_kubelet_are_not_watched_where_the_own_one_is_known(tmp_path):
    home = ("node", "kubelet.slice", "kubepods.slice")
    place = Place((*home, "kubepods-burstable.slice"), home)
    outer, inner = tmp_path / SYSTEMD, tmp_path / "node/kubelet.slice" / SYSTEMD
    for pod in (outer, inner):
        pod.mkdir(parents=True)
    events = CgroupEvents(tmp_path, place)
    events.open()
    for letter, pod in (("a", outer), ("b", inner)):
        (pod / f"cri-containerd-{letter * 64}.scope").mkdir()
    assert told(events) == [(B, UID)]
    events.close()


def test_one_made_anew_at_the_same_path_is_another_one(tmp_path, events):
    container = tmp_path / SYSTEMD / f"cri-containerd-{A}.scope"
    container.parent.mkdir(parents=True)
    events.open()
    with contextlib.ExitStack() as kept:
        for _ in range(3):
            container.mkdir()
            # An inode that is open is not used again, as on a tree of cgroups none ever is.
            kept.callback(os.close, os.open(container, os.O_RDONLY))
            assert told(events) == [(A, UID)]
            container.rmdir()


def test_a_pod_that_is_gone_is_not_watched_any_more(tmp_path, events):
    (tmp_path / SYSTEMD).parent.mkdir(parents=True)
    events.open()
    watched = len(events)
    for _ in range(20):
        (tmp_path / SYSTEMD / f"cri-containerd-{A}.scope").mkdir(parents=True)
        told(events)
        (tmp_path / SYSTEMD / f"cri-containerd-{A}.scope").rmdir()
        (tmp_path / SYSTEMD).rmdir()
        told(events)
    assert len(events) == watched and not events._known


def test_a_storm_is_heard_of_and_leaves_nothing(tmp_path, events):
    (tmp_path / SYSTEMD).mkdir(parents=True)
    events.open()
    watched, seen = len(events), 0
    for number in range(1000):
        path = tmp_path / SYSTEMD / f"cri-containerd-{number:064x}.scope"
        path.mkdir()
        if number % 100 == 99:
            seen += len(told(events))
        path.rmdir()
    assert seen <= 1000 and len(events) == watched
    (tmp_path / SYSTEMD / f"cri-containerd-{A}.scope").mkdir()
    assert told(events) == [(A, UID)]
    assert len(events._known[str(tmp_path / SYSTEMD)]) == 1


def test_what_is_lost_by_an_overflow_is_found_by_a_walk(tmp_path, events, caplog):
    pod = tmp_path / SYSTEMD
    (pod / f"cri-containerd-{B}.scope").mkdir(parents=True)
    events.open()
    more = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) + 10
    for number in range(more):  # nobody reads
        path = pod / f"cri-containerd-{number:064x}.scope"
        path.mkdir()
        path.rmdir()
    (pod / f"cri-containerd-{A}.scope").mkdir()
    assert told(events) == [(A, UID)]
    assert "events of cgroups were lost" in caplog.text
    (pod / f"cri-containerd-{'c' * 64}.scope").mkdir()
    assert told(events) == [("c" * 64, UID)]


def test_no_more_directories_are_watched_than_that(tmp_path, caplog):
    events = CgroupEvents(tmp_path, None, limit=3)
    (tmp_path / SYSTEMD).parent.mkdir(parents=True)
    events.open()
    for number in range(5):
        pod = (tmp_path / SYSTEMD).parent / f"kubepods-burstable-pod{number:032x}.slice"
        (pod / f"cri-containerd-{number:064x}.scope").mkdir(parents=True)
    assert len(told(events)) == 1 and len(events) == 3
    assert caplog.text.count("found late only") == 1
    events.close()


@pytest.mark.needs_root("mounts a cgroup tree")
def test_on_a_real_tree_the_event_comes_with_the_directory():
    with tree() as top:
        pod = top / SYSTEMD
        pod.mkdir(parents=True)
        events = CgroupEvents(top, None)
        events.open()
        waiter = select.poll()
        waiter.register(events.fileno(), select.POLLIN)
        child = subprocess.Popen(["sleep", "60"])
        elder = pod / f"cri-containerd-{B}.scope"
        elder.mkdir()
        (first,) = events.read()
        (elder / "cgroup.procs").write_text(str(child.pid))
        begin = time.monotonic()
        (pod / f"cri-containerd-{A}.scope").mkdir()
        assert waiter.poll(1000)
        (second,) = events.read()
        assert time.monotonic() - begin < 1
        assert (first.container_id, second.container_id) == (B, A)
        assert (has_elder(first), has_elder(second)) == (False, True)
        child.kill()
        child.wait()
        assert not has_elder(second)
        for number in range(1000):
            path = pod / f"cri-containerd-{number:064x}.scope"
            path.mkdir()
            path.rmdir()
        list(events.read())
        assert len(events) == 3
        events.close()
