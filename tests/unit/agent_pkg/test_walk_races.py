# SPDX-License-Identifier: Apache-2.0
"""Pods come and go while the tree of cgroups is walked; those that stay are always found."""

import contextlib
import itertools
import shutil
import threading
from pathlib import Path
from uuid import UUID

import pytest
from memplace_agent.containers import walk as module
from memplace_agent.containers.walk import walk

from tests.support.cgroups import tree

STAYS, GOES = UUID(int=1), UUID(int=2)
A, B = "a" * 64, "b" * 64


def make(root: Path, qos: str, pod: UUID, container: str) -> Path:
    path = root / "kubepods" / qos / f"pod{pod}"
    (path / container).mkdir(parents=True)
    return path


def end(pod: Path) -> None:
    for path in (*pod.iterdir(), pod):
        if path.is_dir():  # a cgroup has files that end with it
            path.rmdir()


@pytest.mark.parametrize("when", ["listed", "read"])
@pytest.mark.parametrize("what", ["remove", "rename"])
@pytest.mark.parametrize("goes", ["", f"pod{GOES}"])
def test_what_goes_after_it_was_listed_hides_nothing_else(tmp_path, monkeypatch, when, what, goes):
    make(tmp_path, "burstable", STAYS, A)
    make(tmp_path, "besteffort", GOES, B)
    gone = tmp_path / "kubepods/besteffort" / goes
    real = module._names

    def go():
        if what == "remove":
            shutil.rmtree(gone)
        else:
            gone.rename(gone.with_name("another"))

    def names(directory, *rest):
        if when == "read" and Path(directory) == gone:
            go()
        listed = real(directory, *rest)
        if when == "listed" and Path(directory) == gone.parent:
            assert gone.name in listed
            go()
        return listed

    monkeypatch.setattr(module, "_names", names)
    found = walk(tmp_path, None)
    assert not gone.exists()
    assert [group.containers for group in found.pods[str(STAYS)]] == [(A,)]
    assert found.is_whole


@pytest.mark.needs_root("to mount a cgroup tree")
def test_on_a_real_tree_the_pods_that_stay_are_found_each_time():
    stop, made = threading.Event(), itertools.count(10)
    with tree() as root:
        stays = [make(root, "burstable", UUID(int=number), A) for number in range(1, 4)]

        def come_and_go():
            while not stop.is_set():
                pods = [make(root, "besteffort", UUID(int=next(made)), B) for _ in range(5)]
                for pod in pods:
                    end(pod)
                with contextlib.suppress(OSError):
                    (root / "kubepods/besteffort").rmdir()

        thread = threading.Thread(target=come_and_go)
        thread.start()
        try:
            found = [walk(root, None) for _ in range(200)]
        finally:
            stop.set()
            thread.join()
    uids = {path.name.removeprefix("pod") for path in stays}
    assert all(each.is_whole and uids <= each.pods.keys() for each in found)
    assert all(each.pods[uid][0].containers == (A,) for each in found for uid in uids)
    assert next(made) > 20
    assert len({frozenset(each.pods) for each in found}) > 1, "nothing came or went meanwhile"
