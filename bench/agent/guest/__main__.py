# SPDX-License-Identifier: Apache-2.0
"""Process 1 of the machine: measures each subject in turn and prints what it saw.

A line is ``ROW {...}`` with what was measured, of whom, and the round; ``FAILED {...}`` is
what could not be. ``BENCH_PLAN`` names the file with what to do.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplace_lab.bench import apiserver

from bench.agent.guest import pods
from bench.agent.guest.calibrate import calibrate
from bench.agent.guest.pods import Pod
from bench.agent.guest.subjects import Agent, Memtierd, Running, log_in, placement, tier

HEAP = [{"type": "Heap"}]
# What no mapping is called: such a placement has the agent look, and nothing to do.
NOTHING = [{"type": "Anonymous", "name": "never-*"}]

Subject = Agent | Memtierd

_MOVES_WITHIN_S = 600
# Of each process, and processes of each container, where there are very many.
_FEW_MAPPINGS, _PROCESSES = 40, 100


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        part: "herd", "victim" or "crowd".
        programs: Folder with herd, probe and victim.
        certificate: Of the API server; its key is beside it.
        memtierd: The program; empty leaves it out.
        config: memtierd's.
        rounds: How often.
        containers: How many.
        mappings: Of each.
        many: Mappings of the one process that has very many.
        processes: How many there are in all, in a crowd.
        settle_s: From the start of a subject to the first measurement.
        window_s: How long its CPU is measured.
        probes: New mappings per round.
        victim_mib: Memory of the process that is looked at.
        moved_mib: Memory of the one that is moved.
    """

    part: str
    programs: str
    certificate: str
    memtierd: str
    config: str
    rounds: int
    containers: int
    mappings: int
    many: int
    processes: int
    settle_s: float
    window_s: float
    probes: int
    victim_mib: int
    moved_mib: int


class Bench:
    """One machine's measurements."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.store = apiserver.Store()
        certificate = Path(plan.certificate)
        port = apiserver.serve(self.store, certificate, certificate.with_suffix(".key"))
        log_in(certificate)
        self.store.put(apiserver.TIERS, tier())
        self.subjects: list[Subject] = [Agent(self.store, port)]
        if plan.memtierd:
            self.subjects.append(Memtierd(plan.memtierd, plan.config))
        self.round = 0
        self.subject = self.subjects[0].name

    def row(self, **found: Any) -> None:
        """Print what was measured."""
        about = {"round": self.round, "subject": self.subject}
        print("ROW", json.dumps({**about, **found}), flush=True)

    def run(self) -> None:
        """Measure each subject in each round; one that fails leaves the others alone."""
        print("ROW", json.dumps({"subject": "", "what": "calibration", **self._calibrated()}))
        parts = {"herd": self.herd, "victim": self.victim, "crowd": self.crowd}
        part: Callable[[Subject], None] = parts[self.plan.part]
        for number in range(self.plan.rounds):
            self.round = number
            # No subject always comes first.
            for subject in self.subjects[:: 1 if self.round % 2 == 0 else -1]:
                self.subject = subject.name
                try:
                    part(subject)
                except Exception:
                    why = traceback.format_exc()
                    failed = {"round": self.round, "subject": subject.name, "why": why}
                    print("FAILED", json.dumps(failed), flush=True)

    def _calibrated(self) -> dict[str, float]:
        return {"seconds": calibrate(f"{self.plan.programs}/herd")}

    @contextlib.contextmanager
    def started_pods(self) -> Iterator[Callable[..., Pod]]:
        """Give a function that starts a pod; all are gone at the end."""
        started: list[Pod] = []

        def start(name: str, app: str, program: str, *args: object) -> Pod:
            command = (f"{self.plan.programs}/{program}", *map(str, args))
            pod = pods.start(f"{name}-{self.round}-{self.subject}", app, *command)
            started.append(pod)
            self.store.put(apiserver.PODS, pod.object)
            return pod

        try:
            yield start
        finally:
            for pod in started:
                pod.end()
                self.store.delete(apiserver.PODS, pod.object["metadata"]["name"])

    @contextlib.contextmanager
    def placed(self, app: str, regions: list[dict[str, str]]) -> Iterator[None]:
        """Have a placement of these regions of an app."""
        self.store.put(apiserver.PLACEMENTS, placement(app, app, regions))
        try:
            yield
        finally:
            self.store.delete(apiserver.PLACEMENTS, app)

    def window(self, what: str, running: Running) -> None:
        """Measure the CPU that a subject takes from now on, as a share of one processor."""
        begin, before = time.monotonic(), running.cpu_s()
        time.sleep(self.plan.window_s)
        took, wall = running.cpu_s() - before, time.monotonic() - begin
        self.row(what=what, percent=100 * took / wall, **running.rss_mib())

    # --- many containers --------------------------------------------------------------

    def herd(self, subject: Subject) -> None:
        """Measure CPU and memory beside many containers, and how late a new mapping is noticed."""
        plan = self.plan
        with self.started_pods() as start, self.placed("herd", HEAP):
            herd = [
                start(f"herd-{number}", "herd", "herd", plan.mappings)
                for number in range(plan.containers)
            ]
            probe = start("probe", "herd", "probe")
            with started(subject) as running:
                self._settle()
                self.row(what="settle", cpu_s=running.cpu_s(), moved=_share(herd), **_own(herd))
                self.window("idle", running)
                self._changes(herd, running)
                self._new_mappings(running, probe)
                start("many", "herd", "herd", plan.many)
                time.sleep(plan.settle_s)
                self.row(what="many", **running.rss_mib())

    def _settle(self) -> None:
        """Wait until a subject has seen all and moved all that it is going to."""
        time.sleep(self.plan.settle_s)
        end, before = time.monotonic() + _MOVES_WITHIN_S, -1
        while (now := _migrated()) != before and time.monotonic() < end:
            before = now
            time.sleep(10)

    def _changes(self, herd: list[Pod], running: Running) -> None:
        half = herd[: len(herd) // 2]
        _signal(half, signal.SIGUSR1)
        time.sleep(5)
        self.window("changes", running)
        _signal(half, signal.SIGUSR2)
        time.sleep(10)

    def _new_mappings(self, running: Running, probe: Pod) -> None:
        begin, before = time.monotonic(), running.cpu_s()
        for _ in range(self.plan.probes):
            time.sleep(random.uniform(2, 7))
            policy, seen, moved = probe.ask("60")
            self.row(what="new mapping", policy_ns=policy, seen_ns=seen, moved_ns=moved)
        took, wall = running.cpu_s() - before, time.monotonic() - begin
        self.row(what="new mappings", percent=100 * took / wall)

    # --- many processes ---

    def crowd(self, subject: Subject) -> None:
        """Measure memory and CPU beside containers of many processes each."""
        with self.started_pods() as start, self.placed("crowd", HEAP):
            crowd = [
                start(f"crowd-{number}", "crowd", "herd", _FEW_MAPPINGS, _PROCESSES)
                for number in range(self.plan.processes // _PROCESSES)
            ]
            with started(subject) as running:
                self._settle()
                self.row(what="settle", cpu_s=running.cpu_s(), moved=_share(crowd), **_own(crowd))
                self.window("crowd", running)

    # --- one large process ------------------------------------------------------------

    def victim(self, subject: Subject) -> None:
        """Measure what a process sees of being looked at, and of being moved."""
        with self.started_pods() as start, self.placed("large", NOTHING):
            large = start("large", "large", "victim", self.plan.victim_mib)
            _alone(large)
            self._seen("control, looked at", large, self.plan.window_s)
            with started(subject) as running:
                # memtierd takes 15 s to call a page idle; what it does after that is no look.
                self._seen("looked at", large, 14.0)
                self.row(what="look", cpu_s=running.cpu_s(), **running.rss_mib())
        with self.started_pods() as start:
            moved = start("moved", "moved", "victim", self.plan.moved_mib)
            _alone(moved)
            self._seen("control, moved", moved, self.plan.window_s)
            pages = self.plan.moved_mib << 8
            before = _migrated()
            with started(subject), self.placed("moved", HEAP):
                _wait_until(lambda: _migrated() > before)
                begin = time.monotonic()
                moved.ask()
                _wait_until(lambda: _migrated() >= before + pages * 9 // 10)
                self._told("moved", moved.ask())
                rate = self.plan.moved_mib * 0.9 / max(time.monotonic() - begin, 0.05)
                time.sleep(2)
                self.row(what="rate", mib_per_s=rate, moved=_share([moved]))

    def _seen(self, what: str, victim: Pod, seconds: float) -> None:
        victim.ask()
        time.sleep(seconds)
        self._told(what, victim.ask())

    def _told(self, what: str, answer: list[int]) -> None:
        names = ("count", "fault_p50", "fault_p99", "fault_worst", "map_p50", "map_p99")
        self.row(what=what, **dict(zip((*names, "map_worst"), answer, strict=True)))


@contextlib.contextmanager
def started(subject: Subject) -> Iterator[Running]:
    """Run a subject."""
    running = subject.start()
    try:
        yield running
    finally:
        running.stop()


def _migrated() -> int:
    """Return the pages moved since the start of the machine; asking disturbs nobody."""
    text = Path("/proc/vmstat").read_text()
    return int(text.split("pgmigrate_success ")[1].split()[0])


def _wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + _MOVES_WITHIN_S
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError("nothing was moved, or not all of it")
        time.sleep(0.02)


def _pids(of: list[Pod]) -> Iterator[int]:
    for pod in of:
        yield from map(int, (pod.cgroup / "cgroup.procs").read_text().split())


def _share(of: list[Pod]) -> float:
    """Return which share of the private writable memory of processes is on node 1."""
    nodes: dict[str, int] = {"0": 0, "1": 0}
    for pid in _pids(of):
        text = Path(f"/proc/{pid}/numa_maps").read_text()
        for line in text.splitlines():
            if " anon=" in line and "stack" not in line:
                for node, pages in re.findall(r" N(\d+)=(\d+)", line):
                    nodes[node] += int(pages)
    return nodes["1"] / max(sum(nodes.values()), 1)


def _own(of: list[Pod]) -> dict[str, int]:
    """Count the mappings, and those that have a policy of their own."""
    lines = [
        line
        for pid in _pids(of)
        for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines()
    ]
    return {"mappings": len(lines), "own": sum(line.split()[1] != "default" for line in lines)}


def _signal(of: list[Pod], number: int) -> None:
    for pod in of:
        pod.process.send_signal(number)


def _alone(victim: Pod) -> None:
    """Give it the last processor, before all others there."""
    last = (os.cpu_count() or 1) - 1
    os.sched_setaffinity(victim.process.pid, {last})
    os.sched_setscheduler(victim.process.pid, os.SCHED_FIFO, os.sched_param(1))


def _mount(kind: str, target: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", target.encode(), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {kind} on {target}")


def _prepare() -> None:
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["HOME"] = "/run"
    for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")):
        _mount(kind, target)
    _mount("cgroup2", "/sys/fs/cgroup")
    _loopback_up()
    pods.prepare_tree()


def _loopback_up() -> None:
    import fcntl
    import socket
    import struct

    # linux include/uapi/linux/sockios.h, if.h: SIOCSIFFLAGS, IFF_UP.
    request = struct.pack("16sh14x", b"lo", 1)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, request)


def _warm_up() -> None:
    """Import all of the agent once.

    A file that is read for the first time comes from outside of the machine; meanwhile its
    clock, which skips pauses, goes as fast as it can.
    """
    every = (
        "import importlib, pkgutil, memplace, memplace_agent\n"
        "for package in (memplace, memplace_agent):\n"
        "  for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
    )
    subprocess.run([sys.executable, "-c", every], check=True)


def main() -> None:
    """Measure, say so, and switch the machine off."""
    try:
        _prepare()
        _warm_up()
        print("BENCH warm", flush=True)
        Bench(Plan(**json.loads(Path(os.environ["BENCH_PLAN"]).read_text()))).run()
        print("BENCH done", flush=True)
    except BaseException:
        traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()
    # QEMU runs with -no-reboot: this ends it.
    ctypes.CDLL(None).reboot(ctypes.c_int(0x01234567))


if __name__ == "__main__":
    main()
