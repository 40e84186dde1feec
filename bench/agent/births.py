# SPDX-License-Identifier: Apache-2.0
"""How soon a new container has its default, made by runc; and what its start costs more.

`make bench-births` takes two minutes.
On the kernel that runs this, which has no process_mbind(): cgroups, inotify, /proc and runc
(the lab workers') are real, the agent's thread for births is the one of this checkout in a
process of its own, as root. Only the call is none: it notes when it was made and of whom, and
the process's status says from then on that it has the default. That of a child does not, so
each stage of runc is asked for; a kernel with the call has less to do. In time is a container
whose program's process was asked for before the first instruction, or was forked after a stage
before it had been: it would have inherited the default.

The time from the event to the default has runc's in it, until it puts a process into the new
cgroup. The agent's own part is at most that from its last look at a list without a process until
that process has the default; of each container its slowest process counts.

Containers are started one at a time and twenty at once, on a machine as it is and beside four
processes a core that compute; with the agent and without. Each says when its first instruction
was. Processes are forked up to 10 ms later than /proc says: some in time are not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
POD = "12345678-1234-1234-1234-123456789abc"
NODE = 0
LATE = 1 << 63
_ALONE = ("unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc")
_FORK = multiprocessing.get_context("fork")


@dataclass
class Box:
    """Where it all happens: a pod's cgroup, a root for containers, and runc."""

    work: Path
    tree: Path
    numbers: int = 0
    pod: Path = field(init=False)

    def __post_init__(self) -> None:
        self.pod = self.tree / "kubepods.slice" / f"kubepods-pod{POD.replace('-', '_')}.slice"
        self.pod.mkdir(parents=True)

    def next_id(self) -> str:
        """Return an id that no container had."""
        self.numbers += 1
        return f"{os.getpid():032x}{self.numbers:032x}"

    def bundle(self, container_id: str) -> Path:
        """Make the bundle of a container in the pod."""
        path = self.work / "bundles" / container_id
        path.mkdir(parents=True)
        inside = self.pod.relative_to("/sys/fs/cgroup") / f"cri-containerd-{container_id}.scope"
        kinds = ("pid", "ipc", "uts", "mount", "cgroup")
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/first"],
                "cwd": "/",
                "noNewPrivileges": True,
            },
            "root": {"path": str(self.work / "rootfs"), "readonly": True},
            # Of their own: runc makes links in /dev, and all have one root.
            "mounts": [_mount("proc", "/proc"), _mount("tmpfs", "/dev")],
            "linux": {
                "cgroupsPath": f"/{inside}",
                "namespaces": [{"type": kind} for kind in kinds],
            },
        }
        (path / "config.json").write_text(json.dumps(config))
        return path


def _mount(kind: str, on: str) -> dict[str, str]:
    return {"destination": on, "type": kind, "source": kind}


@dataclass(frozen=True)
class Start:
    """One start: milliseconds to the first instruction, and when that was."""

    container_id: str
    pid: int
    took_ms: float
    first_ns: int
    forked_ns: int


def start_all(box: Box, count: int) -> list[Start]:
    """Start containers at once and wait for their ends."""
    runs = []
    for container_id in [box.next_id() for _ in range(count)]:
        bundle = box.bundle(container_id)
        command = [box.work / "runc", "--root", box.work / "state", "run", "--bundle", bundle]
        began = time.monotonic_ns()
        run = subprocess.Popen(
            [*map(str, command), "--pid-file", str(bundle / "pid"), container_id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={"PATH": "/usr/sbin:/usr/bin", "LD_LIBRARY_PATH": str(box.work)},
        )
        runs.append((container_id, bundle, began, run))
    found = []
    for container_id, bundle, began, run in runs:
        said, _ = run.communicate(timeout=120)
        if run.returncode:
            raise SystemExit(f"runc ended with {run.returncode}")
        (first, forked), pid = map(int, said.split()), int((bundle / "pid").read_text())
        found.append(Start(container_id, pid, (first - began) / 1e6, first, forked))
        shutil.rmtree(bundle)
    return found


# --- the agent ---


class Stub:
    """In place of the kernel's call: who was asked for, and when."""

    version = 2

    def __init__(self) -> None:
        from memplace_agent.syscalls import RunningKernel

        self._kernel = RunningKernel(None)
        self.calls: dict[int, int] = {}
        self.first: dict[str, int] = {}
        self.pidfd_open, self.is_alive = self._kernel.pidfd_open, self._kernel.is_alive

    def set_future(self, pidfd: int, *_args: Any, **_kwargs: Any) -> None:
        """Note it; the process has the default from now on."""
        lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
        (pid,) = (int(line.split()[1]) for line in lines if line.startswith("Pid:"))
        self.calls.setdefault(pid, time.monotonic_ns())
        with contextlib.suppress(OSError):
            cgroup = Path(f"/proc/{pid}/cgroup").read_text().strip()
            container_id = cgroup.rpartition("cri-containerd-")[2].removesuffix(".scope")
            self.first.setdefault(container_id, self.calls[pid])

    def process_mbind(self, *_args: Any, **_kwargs: Any) -> int:
        """Do nothing: nobody asks for it here."""
        raise NotImplementedError


def be_agent(work: Path, pipe: Any) -> None:
    """Run the thread of births until told to end; say then what it heard and did."""
    from memplace_agent.backends.process_mbind import ProcessMbind
    from memplace_agent.containers.identity import probe_identities
    from memplace_agent.containers.pinning import Pinner
    from memplace_agent.engine import cradle
    from memplace_agent.engine.apply import PolicySetter
    from memplace_agent.engine.birth import Births
    from memplace_agent.hostfs import HostFs
    from memplace_agent.ledger_store import LedgerStore
    from memplace_agent.metrics import Metrics

    # Its haste is before others of its pod only, as in a cluster: not before the runtime's.
    os.setsid()
    stub, host = Stub(), HostFs()
    module: dict[str, Any] = vars(cradle)
    read = module["read_proc"]

    def read_status(path: Path) -> str:
        has = int(path.parent.name) in stub.calls
        text: str = read(path)
        return text + (f"Mpol_future:\tprefer (many)=static:{NODE} exec\n" if has else "")

    module["read_proc"] = read_status
    births = Births(
        host,
        Pinner(host, stub, probe_identities(host, stub)),
        PolicySetter(ProcessMbind(stub, flags=0xF7)),
        Metrics(),
    )
    began, slowest = _noted(births)
    births.publish(_table(), LedgerStore.open(work / "ledger", "boot"))
    stop = threading.Event()
    (thread := threading.Thread(target=births.run, args=(stop, lambda: None))).start()
    while not births.is_watching:
        time.sleep(0.01)
    pipe.send("watching")
    used = time.process_time()
    pipe.recv()
    used = time.process_time() - used
    until = time.monotonic() + 5
    while births._cradles and time.monotonic() < until:  # each is counted when it ends
        time.sleep(0.1)
    stop.set()
    births.wake()
    thread.join()
    pipe.send((began, stub.calls, stub.first, used, slowest))


def _noted(births: Any) -> tuple[dict[str, int], dict[str, float]]:
    """Return, filled as they are born, when containers were heard of and how late the last was."""
    began: dict[str, int] = {}
    slowest: dict[str, float] = {}
    begin, count = births.begin, births._count

    def heard(born: Any, *args: Any) -> Any:
        began[born.container_id] = time.monotonic_ns()
        return begin(born, *args)

    def counted(cradle: Any) -> None:
        if cradle.in_force is not None:
            slowest[cradle.born.container_id] = cradle._slowest
        count(cradle)

    vars(births).update(begin=heard, _count=counted)
    return began, slowest


def _table() -> Any:
    from memplace.api.objects import parse_placement
    from memplace.future import implied_future
    from memplace_agent.engine.expected import Expected, Newborn

    rule = {"regions": [{"type": "Heap"}], "policy": {"mode": "PreferredMany", "tiers": ["t"]}}
    placement = parse_placement(
        {
            "apiVersion": "memplace.dev/v1alpha1",
            "kind": "MemoryPlacement",
            "metadata": {
                **{"name": "p", "namespace": "n", "uid": "u", "generation": 1},
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"selector": {}, "rules": [{"name": "heap", **rule}]},
        }
    )
    future = implied_future(placement.spec.rules)
    newborn = Newborn(placement, future, {"t": frozenset({NODE})}, frozenset({"t"}))
    return {POD: Expected({"c": newborn})}


@contextlib.contextmanager
def agent(work: Path) -> Iterator[dict[str, Any]]:
    """Run it beside what is measured; what it says is there at the end."""
    ours, theirs = _FORK.Pipe()
    (process := _FORK.Process(target=be_agent, args=(work, theirs))).start()
    theirs.close()
    said: dict[str, Any] = {}
    try:
        assert ours.recv() == "watching"
        yield said
        ours.send("end")
        words = ("began", "calls", "first", "used", "slowest")
        said |= dict(zip(words, ours.recv(), strict=True))
        process.join()
    finally:
        process.kill()


# --- what is measured ---


@contextlib.contextmanager
def load() -> Iterator[None]:
    """Have four processes for each core compute."""
    count = 4 * (os.cpu_count() or 1)
    command = [sys.executable, "-S", "-c", "while True: sum(range(10000))"]
    busy = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def measure(box: Box, count: int, rounds: int) -> dict[str, Any]:
    """Start containers in turn with the agent and without."""
    alone, beside = list[Start](), list[Start]()
    began, first, used = dict[str, int](), dict[str, int](), 0.0
    calls: dict[int, int] = {}
    slowest: dict[str, float] = {}
    start_all(box, count)  # into the caches
    times = max(1, 20 // count)
    for _ in range(rounds):
        alone += [each for _ in range(times) for each in start_all(box, count)]
        with agent(box.work) as said:
            mine = [each for _ in range(times) for each in start_all(box, count)]
        beside += mine
        began |= said["began"]
        calls |= {each.pid: said["calls"].get(each.pid, LATE) for each in mine}
        first |= said["first"]
        slowest |= said["slowest"]
        used += said["used"]
    heard = [each for each in beside if each.container_id in began]
    reached = [s for s in heard if s.container_id in first]
    in_force = [(first[s.container_id] - began[s.container_id]) / 1e6 for s in reached]
    in_time = [
        s for s in reached if calls[s.pid] < s.first_ns or first[s.container_id] < s.forked_ns
    ]
    return {
        "containers": len(beside),
        "in time": len(in_time),
        "in force": in_force,
        "reaction": [1e3 * slowest.get(s.container_id, float("inf")) for s in reached],
        "used": 1e3 * used / len(beside),
        "window": [(s.first_ns - began[s.container_id]) / 1e6 for s in heard],
        "alone": [each.took_ms for each in alone],
        "beside": [each.took_ms for each in beside],
    }


def prepare(work: Path) -> None:
    """Unpack runc, and compile the container's program."""
    from memplace_lab.base import debian
    from memplace_lab.cluster import guest

    tar = debian.ensure_root_tar(
        "guest-root", guest.packages(), title="the workers' root file system"
    )
    files = ("./usr/sbin/runc", "./usr/lib/x86_64-linux-gnu/libseccomp.so.2.6.0")
    subprocess.run(["tar", "-xf", str(tar), "-C", str(work), *files], check=True)
    shutil.move(work / files[0], work / "runc")
    shutil.move(work / files[1], work / "libseccomp.so.2")
    for name in ("proc", "dev"):
        (work / "rootfs" / name).mkdir(parents=True)
    gcc = ("gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror")
    source = str(HERE / "programs" / "first.c")
    subprocess.run([*gcc, source, "-o", str(work / "rootfs/first")], check=True)


def alone(work: Path, rounds: int, *, as_it_is: bool) -> None:
    """Measure as process 1 of a pid namespace, with a tree of cgroups of its own."""
    from memplace_lab.bench.births import table

    subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
    tree = Path("/sys/fs/cgroup") / f"memplace-bench-{Path('/proc/self/ns/pid').stat().st_ino}"
    tree.mkdir()
    found = {}
    print(f"Load average {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores when it began.\n")
    try:
        box = Box(work, tree)
        # What a pod has first, and keeps.
        pause = box.pod / f"cri-containerd-{'5' * 64}.scope"
        pause.mkdir()
        sandbox = subprocess.Popen(["sleep", "3600"])
        (pause / "cgroup.procs").write_text(str(sandbox.pid))
        for busy in (False, True)[: 2 - as_it_is]:
            for count in (1, 20):
                name = f"{count} at a time" + (", under load" if busy else "")
                with load() if busy else contextlib.nullcontext():
                    found[name] = measure(box, count, rounds)
    finally:
        (tree / "cgroup.kill").write_text("1")
        time.sleep(0.5)
        for path, _, _ in os.walk(tree, topdown=False):
            Path(path).rmdir()
    print(table(found))


def main() -> int:
    """Prepare, and go on in namespaces of its own."""
    parser = argparse.ArgumentParser(
        prog="bench/agent/births.py",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--as-it-is", action="store_true", help="without a load of its own")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone(options.alone, options.rounds, as_it_is=options.as_it_is)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        words = ["--alone", folder, "--rounds", str(options.rounds)]
        words += ["--as-it-is"] * options.as_it_is
        return subprocess.run([*_ALONE, sys.executable, __file__, *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
