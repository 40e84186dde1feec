# SPDX-License-Identifier: Apache-2.0
"""Names of cgroups can be made up; whose a cgroup is can't. And a walk ends, whatever is there."""

import os
import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memplace.assignment import PodRef
from memplace.pods import PodState
from memplace_agent.containers.finder import Finder
from memplace_agent.containers.index import CgroupIndex
from memplace_agent.containers.names import (
    container_with_pod_of,
    id_of,
    is_qos,
    names_container,
    normal_uid,
    pod_of,
)
from memplace_agent.containers.place import Place, find_place, place_of
from memplace_agent.containers.walk import walk
from memplace_agent.hostfs import HostFs

ID, OTHER, OWN, NODE = ("c0ffee00" * 8, "a991ee00" * 8, "0badcafe" * 8, "d6701ec2" * 8)
UID = "2ca4a155-1b5f-4b9c-8d3e-0123456789ab"
EVIL = "66666666-1b5f-4b9c-8d3e-0123456789ab"
AGENT = "11111111-1b5f-4b9c-8d3e-0123456789ab"


def slice_of(uid, root="kubepods"):
    return f"{root}-pod{uid.replace('-', '_')}.slice"


# --- names ----------------------------------------------------------------------------------

uids = st.uuids().map(str)
ids = st.text("0123456789abcdef", min_size=64, max_size=64)
words = st.from_regex(r"([a-z][a-z0-9]{0,8}[-_.])?", fullmatch=True).filter(
    lambda word: not word.startswith(("kata", "conmon"))
)
endings = st.sampled_from(["", ".scope", ".service", ".slice", "_1", "-init.scope"])


@given(uids, st.sampled_from(["", "kubepods-", "my_root-kubepods-burstable-", "BestEffort-", "a_"]))
def test_a_pods_uid_is_read_whatever_is_around_it(uid, before):
    names = [f"{before}pod{uid}", f"{before}pod{uid.replace('-', '_')}.slice"]
    for name in (*names, f"{names[1]}.slice", f"{names[1]}:cri-next:{ID}"):
        assert pod_of(name, below_kubepods=False) == uid
    assert pod_of(names[0] + "0", below_kubepods=False) is None
    assert (
        pod_of(f"lib{names[0]}" if not before else f"{before}x{uid}", below_kubepods=False) is None
    )


@given(ids, words, endings)
def test_a_containers_id_is_read_whatever_is_around_it(id_, before, after):
    assert names_container(f"{before}{id_}{after}", id_)
    assert id_of(f"{before}{id_}{after}") == id_


# No id of a pod is shorter than 12.
@given(ids, words, endings, st.integers(12, 63))
def test_ids_that_begin_or_end_alike_are_different_ones(id_, before, after, length):
    name = f"{before}{id_}{after}"
    assert not names_container(name, id_[:length])
    assert not names_container(name, id_[-length:])
    assert not names_container(f"{before}{id_[:length]}{after}", id_)
    assert not names_container(name, id_ + "0")


@pytest.mark.parametrize("name", [f"crio-conmon-{ID}.scope", f"crio-conmon-{ID}", f"kata_{ID}"])
def test_what_runs_beside_a_container_is_not_it(name):
    assert not names_container(name, ID)


@pytest.mark.parametrize("name", ["podman", "libpod-conmon", "pods", f"libpod-{ID}.scope", "pod-1"])
def test_what_only_begins_like_a_pod_is_none(name):
    assert pod_of(name, below_kubepods=False) is None


def test_a_literal_path_has_both():
    assert container_with_pod_of(f"{slice_of(UID)}:cri-containerd:{ID}") == f"cri-containerd:{ID}"
    assert container_with_pod_of(slice_of(UID)) is None
    assert container_with_pod_of(f"a:b:{ID}") is None


def test_a_uid_has_one_form():
    assert normal_uid(UID.replace("-", "_")) == UID


# --- the agent's own place ------------------------------------------------------------------

KUBELET = ("kubelet.slice", "kubelet-kubepods.slice")


@pytest.mark.parametrize(
    ("own", "way", "home"),
    [
        (("kubepods.slice", slice_of(AGENT), "x.scope"), 1, 1),
        (("kubepods", "burstable", f"pod{AGENT}", OWN), 2, 1),
        ((*KUBELET, "kubelet-kubepods-burstable.slice", slice_of(AGENT), "x"), 3, 2),
        # a node in a pod
        (("kubepods.slice", slice_of(EVIL), "x", NODE, *KUBELET, slice_of(AGENT), "y"), 6, 6),
        ((f"{slice_of(AGENT)}:cri-containerd:{OWN}",), 0, 0),
    ],
)
def test_the_agents_kubelet_has_its_pods_around_it(own, way, home):
    assert place_of(own) == Place(own[:way], own[:home])


@pytest.mark.parametrize("own", [(), ("system.slice", "agent.service"), ("docker", NODE)])
def test_who_is_no_pod_knows_nothing_of_where_pods_are(own):
    assert place_of(own) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("burstable", True),
        ("kubelet-kubepods-besteffort.slice", True),
        ("kubepods.slice", False),
        ("mine", False),
    ],
)
def test_classes_of_service_have_cgroups_of_their_own(name, expected):
    assert is_qos(name) is expected


def test_the_agent_finds_itself_by_name_or_by_inode(tmp_path):
    own = tmp_path / "cgroup/kubepods.slice" / slice_of(AGENT) / "x.scope"
    own.mkdir(parents=True)
    place = Place(("kubepods.slice",), ("kubepods.slice",))
    (tmp_path / "proc/self").mkdir(parents=True)
    host = HostFs(proc=tmp_path / "proc", cgroup=tmp_path / "cgroup", own_cgroup=own)
    # In a namespace of its own it sees names that the host has too.
    (tmp_path / "proc/self/cgroup").write_text("0::/kubepods.slice\n")
    assert find_place(host) == place
    assert find_place(replace(host, own_cgroup=tmp_path)) is None
    assert find_place(replace(host, own_cgroup=tmp_path / "gone")) is None
    # In the host's, /sys/fs/cgroup is the whole tree.
    shared = replace(host, own_cgroup=host.cgroup)
    assert find_place(shared) is None
    (tmp_path / "proc/self/cgroup").write_text(f"0::/kubepods.slice/{slice_of(AGENT)}/x.scope\n")
    assert find_place(shared) == place
    (tmp_path / "proc/self/cgroup").unlink()
    assert find_place(shared) is None


# --- whose a cgroup is ----------------------------------------------------------------------

REAL = [
    f"kubepods.slice/{slice_of(UID)}/cri-containerd-{ID}.scope",
    f"kubepods.slice/kubepods-burstable.slice/{slice_of(UID, 'x-burstable')}/crio-{ID}.scope",
    f"kubepods.slice/pod{UID}/{ID}",
]
OWN_PATH = f"kubepods.slice/kubepods-burstable.slice/{slice_of(AGENT)}/cri-containerd-{OWN}.scope"
# Where somebody who is not root of the node may make directories.
TENANTS = [
    f"kubepods.slice/{slice_of(EVIL)}/cri-containerd-{OTHER}.scope",
    f"kubepods.slice/{slice_of(UID)}/cri-containerd-{OTHER}.scope",
    f"kubepods.slice/{slice_of(EVIL)}/cri-containerd-{OTHER}.scope/docker/{NODE}",
    f"system.slice/docker-{NODE}.scope",
    f"machine.slice/libpod-{NODE}.scope/container",
]
made_up = st.sampled_from(
    [
        slice_of(UID),
        f"pod{UID}",
        "kubepods",
        "kubepods.slice",
        "kubepods-burstable.slice",
        f"cri-containerd-{ID}.scope",
        f"crio-{ID}.scope",
        ID,
        f"{slice_of(UID)}:cri-containerd:{ID}",
        "a",
    ]
)
plants = st.tuples(st.sampled_from(TENANTS), st.lists(made_up, min_size=1, max_size=5)).map(
    lambda plant: "/".join([plant[0], *plant[1]])
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.none(), st.sampled_from(REAL)), st.lists(plants, max_size=6))
def test_no_name_that_a_tenant_makes_up_is_taken_for_a_container(real, planted):
    with tempfile.TemporaryDirectory() as root:
        for path in (OWN_PATH, *planted, *([real] if real else [])):
            Path(root, path).mkdir(parents=True, exist_ok=True)
        for path in planted:
            Path(root, path, "cgroup.procs").write_text("666\n")
        host = HostFs(proc=Path("/nothing"), cgroup=Path(root), own_cgroup=Path(root, OWN_PATH))
        finder = Finder(host, lambda: 0.0)
        ref = PodRef(namespace="ns", name="p", uid=UID, labels={}, containers=("c",))
        # Whoever may write a pod may also say that it is a static one, by another's name.
        forged = PodState(
            PodRef(namespace="ns", name="q", uid=EVIL, labels={}, containers=("c",)),
            {"c": OTHER},
            config_hash=UID,
        )
        found = finder.find(ID, PodState(ref, {"c": ID}))
        assert (found and str(found.path.relative_to(root))) == real
        assert not finder.refs(ID) if real is None else len(finder.refs(ID)) == 1
        theirs = finder.find(OTHER, forged)
        assert theirs is None or OTHER in theirs.path.name


def test_a_pod_in_a_container_is_the_containers_memory(tmp_path):
    inner = f"{TENANTS[0]}/kubelet.slice/kubelet-kubepods.slice/{slice_of(UID)}/crio-{ID}.scope"
    (tmp_path / inner).mkdir(parents=True)
    index = CgroupIndex(tmp_path)
    index.refresh()
    assert index.find(ID, {UID}) is None
    assert index.find(OTHER, {EVIL}) is not None


def test_of_two_names_with_the_id_the_plainer_is_the_container(tmp_path):
    pod = tmp_path / "kubepods.slice" / slice_of(UID)
    for name in (f"crio-helper-{ID}.scope", f"crio-{ID}.scope"):
        (pod / name).mkdir(parents=True)
    index = CgroupIndex(tmp_path)
    index.refresh()
    ref = index.find(ID, {UID})
    assert ref is not None and ref.path.name == f"crio-{ID}.scope"


def test_a_better_cgroup_is_taken_once_it_is_there(tmp_path):
    now, ref = [0.0], PodRef(namespace="ns", name="p", uid=UID, labels={}, containers=("c",))
    pod = PodState(ref, {"c": ID})
    (tmp_path / OWN_PATH).mkdir(parents=True)
    host = HostFs(proc=tmp_path / "no", cgroup=tmp_path, own_cgroup=tmp_path / OWN_PATH)
    finder = Finder(host, lambda: now[0])
    left = tmp_path / "kubepods" / f"pod{UID}" / ID
    left.mkdir(parents=True)
    found = finder.find(ID, pod)
    assert found is not None and found.path == left
    (tmp_path / REAL[0]).mkdir(parents=True)
    now[0] = 60.0
    found = finder.find(ID, pod)
    assert found is not None and found.path == tmp_path / REAL[0]


# --- what a walk costs ----------------------------------------------------------------------


def forest(root, width, depth):
    path = root
    for level in range(depth):
        path = path / f"level{level}"
        for number in range(width):
            (path / f"{number}").mkdir(parents=True)


def test_a_large_tree_ends_a_walk_and_that_is_known(tmp_path):
    forest(tmp_path / "a", width=20, depth=5)
    (tmp_path / "kubepods.slice" / slice_of(UID)).mkdir(parents=True)
    found = walk(tmp_path, None, limit=30)
    assert (found.looked_at, found.is_whole) == (30, False)
    assert UID in found.pods  # what is near the top comes first
    assert walk(tmp_path, None).is_whole


def test_a_deep_tree_ends_a_walk(tmp_path):
    (tmp_path / "/".join("d" * 100)).mkdir(parents=True)
    found = walk(tmp_path, None)
    assert found.looked_at < 50 and not found.is_whole


@pytest.mark.needs_root("gives a directory another owner")
def test_what_was_given_to_a_user_costs_nothing(tmp_path):
    theirs = tmp_path / "user.slice/user@1000.service"
    forest(theirs, width=50, depth=4)
    os.chown(theirs, 1000, 1000)
    found = walk(tmp_path, None)
    assert (found.looked_at, found.is_whole) == (2, True)


def test_the_more_a_walk_takes_the_seldomer_it_is(tmp_path):
    took = iter([0.0, 0.1, 5.0, 5.0, 7.0, 7.0])
    now, walks = [100.0], []
    finder = Finder(
        HostFs(cgroup=tmp_path), lambda: now[0], lambda: walks.append(now[0]) or next(took)
    )
    ref = PodRef(namespace="ns", name="p", uid=UID, labels={}, containers=("c",))
    while now[0] < 111.0:
        finder.find(ID, PodState(ref, {"c": ID}))
        now[0] += 0.125
    # 0.1 s is 1 % of 10 s; after one that took no time it is looked for twice a second.
    assert sorted(set(walks)) == [100.0, 110.0, 110.5]


def test_a_walk_without_descriptors_is_not_whole(tmp_path):
    (tmp_path / "kubepods.slice" / slice_of(UID)).mkdir(parents=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        found = walk(tmp_path, None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (found.pods, found.is_whole) == ({}, False)
