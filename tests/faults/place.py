# SPDX-License-Identifier: Apache-2.0
"""An agent in a real cgroup finds itself, and its neighbours, in the tree of the whole machine.

    python3 -m tests.faults.place     as process 1 of a pid namespace, as root

It has a cgroup namespace and a mount of its own, as a container has. A kubelet and a runtime
are not needed: what they leave in the tree are directories.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from memplace.assignment import PodRef
from memplace.pods import PodState
from memplace_agent.containers.finder import Finder
from memplace_agent.containers.members import member_test, read_members
from memplace_agent.containers.place import find_place
from memplace_agent.hostfs import HostFs

from tests.support.cgroups import tree

_CLONE_NEWCGROUP = 0x0200_0000


def _slice(uid: str) -> str:
    return f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"


def _start(cgroup: Path) -> subprocess.Popen[bytes]:
    cgroup.mkdir(parents=True)
    into = 'echo $$ > "$0/cgroup.procs" && exec sleep 600'
    return subprocess.Popen(["/bin/sh", "-c", into, str(cgroup)])


def main() -> None:
    ours, theirs, evil = (str(uuid.uuid4()) for _ in range(3))
    container = "c0ffee00" * 8
    with tree() as top, tempfile.TemporaryDirectory() as mounted:
        # A node that is itself a container, in a pod of another cluster.
        node = top / _slice(evil) / f"cri-containerd-{'a' * 64}.scope" / ("d" * 64)
        burstable = node / "kubelet.slice/kubepods.slice/kubepods-burstable.slice"
        own = burstable / _slice(ours) / f"cri-containerd-{'b' * 64}.scope"
        own.mkdir(parents=True)
        neighbour = burstable / _slice(theirs) / f"cri-containerd-{container}.scope"
        process = _start(neighbour)
        planted = _start(top / f"docker-{'e' * 64}.scope" / _slice(theirs) / neighbour.name)
        home = Path("/proc/self/cgroup").read_text()
        (own / "cgroup.procs").write_text(str(os.getpid()))
        assert not ctypes.CDLL(None).unshare(_CLONE_NEWCGROUP)
        subprocess.run(["mount", "-t", "cgroup2", "none", mounted], check=True)
        host = HostFs(cgroup=top.parent, own_cgroup=Path(mounted))
        place = find_place(host)
        assert place is not None, "the agent does not find itself"
        assert place.way == burstable.relative_to(top.parent).parts, place
        assert place.home == place.way[:-1], place
        finder = Finder(host, lambda: 0.0)
        ref = PodRef(namespace="ns", name="p", uid=theirs, labels={}, containers=("c",))
        found = finder.find(container, PodState(ref, {"c": container}))
        assert found is not None and found.path == neighbour, found
        while not read_members(found):
            time.sleep(0.01)
        assert read_members(found) == {process.pid}
        is_member = member_test(host, found)
        assert is_member(process.pid) and not is_member(planted.pid) and not is_member(os.getpid())
        subprocess.run(["umount", mounted], check=True)
        # Out of it again, so that the tree can be removed.
        for child in (process, planted):
            child.kill()
            child.wait()
        path = next(line for line in home.splitlines() if line.startswith("0::"))
        (top.parent / path.removeprefix("0::/") / "cgroup.procs").write_text(str(os.getpid()))
        print("found")


if __name__ == "__main__":
    main()
