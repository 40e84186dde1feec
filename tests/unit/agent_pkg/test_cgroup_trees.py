# SPDX-License-Identifier: Apache-2.0
"""On the cgroup trees of unlike nodes the container is found, or it is said why it is not."""

import os
import tomllib
from pathlib import Path

import pytest
from memplace.assignment import PodRef
from memplace.pods import PodState
from memplace.reasons import Reason
from memplace_agent.containers.finder import Finder
from memplace_agent.containers.members import is_below, read_members
from memplace_agent.hostfs import HostFs

DATA = Path(__file__).parent / "data/cgroups"
NODES = [
    node
    for name in ("found.toml", "absent.toml")
    for node in tomllib.loads((DATA / name).read_text())["node"]
]
UID = "2ca4a155-3599-498d-bb9d-4446693fa3ea"
OUTER = "7b1f0d3c-0a52-4f0e-9a2d-6f1e4c1d2e3f"
NAMES = {
    "app": "0c34bcd7d02f321d0df7aa6ea703285b02abebc9096c5128c14091fc43ea1f3b",
    "pause": "8564224395a4fbf7f2792baa22ee16dfc8f8e862e20342d3b2bcc211a3939af6",
    "other": "a09bc17f5aa29b0dbdec9ede5f46cf1396d2405917ab02e6f1eb1019f388396e",
    "node": "d6701ec289c56e4391acb11d07474b3139466857a305490575508a8b7a9fcf22",
    "hash": "187bff14cccb94f179e943eacce55bb3",
    "uid": UID,
    "_uid": UID.replace("-", "_"),
    "outer": OUTER,
    "outer_": OUTER.replace("-", "_"),
}


class Tree:
    """A node of `data/cgroups` as directories, and the pod that the API has."""

    def __init__(self, root, node):
        self.root, self.now = root, 0.0
        self.cgroup = root / "cgroup"
        self.proc = root / "proc"
        self.cgroup.mkdir()
        if not node.get("v1"):
            (self.cgroup / "cgroup.procs").write_text("")
            (self.cgroup / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        for line in node["tree"]:
            path, _, pids = line.format(**NAMES).rpartition(":")
            self.group(path, *pids.split())
        for line in node.get("process", ()):
            self.process(*line.split(" ", 3))
        own = node.get("own", "").format(**NAMES)
        self.host = HostFs(
            proc=self.proc,
            cgroup=self.cgroup,
            own_cgroup=self.cgroup / own if own else root / "unknown",
        )
        ref = PodRef(namespace="ns", name="p", uid=UID, labels={}, containers=("c",))
        self.pod = PodState(
            ref,
            {"c": NAMES["app"]},
            config_hash=NAMES["hash"] if node.get("hash") else "",
            runtime_class=node.get("class", ""),
        )
        self.finder = Finder(self.host, lambda: self.now)

    def group(self, path, *pids):
        directory = self.cgroup / path
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        for pid in pids:
            (self.proc / pid).mkdir(parents=True, exist_ok=True)
            (self.proc / pid / "cgroup").write_text(f"0::/{path}\n")

    def process(self, pid, comm, argv, mapping):
        (self.proc / pid).mkdir(parents=True, exist_ok=True)
        (self.proc / pid / "comm").write_text(f"{comm}\n")
        (self.proc / pid / "cmdline").write_text(f"{argv}\0--flag\0")
        (self.proc / pid / "maps").write_text(
            f"7f0000000000-7f0000001000 rw-s 00000000 00:00 5 {mapping}\n"
        )

    def find(self):
        return self.finder.find(NAMES["app"], self.pod)

    def absence(self):
        return self.finder.absence(NAMES["app"], self.pod, self.find())


def named(nodes):
    return [pytest.param(node, id=node["name"]) for node in nodes]


@pytest.mark.parametrize("node", named(n for n in NODES if "path" in n))
def test_the_container_is_found(tmp_path, node):
    tree = Tree(tmp_path, node)
    ref = tree.find()
    assert ref is not None
    assert str(ref.path.relative_to(tree.cgroup)) == node["path"].format(**NAMES)
    assert sorted(read_members(ref)) == node["pids"]
    for pid in node["pids"]:
        assert is_below(ref.parts, (tree.proc / str(pid) / "cgroup").read_text())


@pytest.mark.parametrize("node", named(n for n in NODES if "reason" in n))
def test_it_is_said_why_it_is_not(tmp_path, node):
    tree = Tree(tmp_path, node)
    first = tree.absence()
    tree.now = 60.0
    last = tree.absence()
    assert last.reason == node["reason"]
    assert first.reason == (Reason.PENDING if node.get("late") else node["reason"])
    assert node.get("says", "").format(**NAMES) in last.message
    assert len(last.message) <= 1024 and "\n" not in last.message


def test_there_are_enough_nodes_and_each_has_its_source():
    assert len(NODES) >= 30
    assert all(node["source"] and ("path" in node) != ("reason" in node) for node in NODES)
    assert len({node["name"] for node in NODES}) == len(NODES)


def test_where_it_was_looked_for_is_said(tmp_path):
    node = next(n for n in NODES if n["name"].startswith("kubelet --cgroups-per-qos"))
    tree = Tree(tmp_path, node)
    tree.absence()
    tree.now = 60.0
    message = tree.absence().message
    assert str(tree.cgroup) in message and UID in message
    # It is seen, but nothing says whose it is.
    assert f"/system.slice/cri-containerd-{NAMES['app']}.scope" in message


@pytest.mark.needs_root("gives a directory another owner")
@pytest.mark.parametrize("is_there", [True, False])
def test_what_a_user_may_make_is_not_looked_into(tmp_path, is_there):
    # systemd gives user@1000.service to the user, who can make any name below it.
    user = "user.slice/user-1000.slice/user@1000.service"
    planted = f"{user}/kubepods-pod{NAMES['_uid']}.slice/cri-containerd-{NAMES['app']}.scope"
    real = f"a/b/c/d/e/kubepods-pod{NAMES['_uid']}.slice/cri-containerd-{NAMES['app']}.scope"
    lines = [f"{planted}: 666", *([f"{real}: 101"] if is_there else [])]
    tree = Tree(tmp_path, {"tree": lines})
    for directory in (tree.cgroup / user).rglob("*"):
        os.chown(directory, 1000, 1000)
    os.chown(tree.cgroup / user, 1000, 1000)
    ref = tree.find()
    assert (ref and str(ref.path.relative_to(tree.cgroup))) == (real if is_there else None)
