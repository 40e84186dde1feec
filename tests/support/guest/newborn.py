# SPDX-License-Identifier: Apache-2.0
"""What a container is that a runtime is making, and a thread of the agent that hears of it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from pathlib import Path

from tests.support.guest.harness import HEAP, scope, world

# Between the process in the cgroup and its program. runc takes 11 to 31 ms on a machine; this
# one is emulated, and the agent some fifty times slower than there.
WINDOW_S = 1.0

PROGRAM = """
import mmap, os, sys
kept = bytearray(64 << 20)
for at in range(0, len(kept), 4096):
    kept[at] = 7
own = mmap.mmap(-1, 4 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
own[:] = bytes(len(own))
print("ready", flush=True)
sys.stdin.read()
"""


def pods_container(letter):
    path = scope().parent / f"cri-containerd-{letter * 64}.scope"
    path.mkdir()
    return path


class Runtime:
    """Makes a container as runc does: three stages, of which the last executes the program."""

    def __init__(self, letter, program=PROGRAM, window=WINDOW_S):
        self.id = letter * 64
        self.up, down = os.pipe()
        (low, self.input) = os.pipe()
        begin, go = os.pipe()
        self.first = os.fork()
        if self.first == 0:
            for fd in (self.up, self.input, go):
                os.close(fd)
            os.read(begin, 1)
            self._stages(low, down, program, window)
        for fd in (low, down, begin):
            os.close(fd)
        self.cgroup = pods_container(letter)
        (self.cgroup / "cgroup.procs").write_text(str(self.first))
        os.write(go, b".")
        os.close(go)

    def _stages(self, low, down, program, window):
        # Each is forked by the one before, which may have no default yet, and ends.
        for _ in range(2):
            if os.fork() != 0:
                time.sleep(window / 2)
                os._exit(0)
        self._wait_before_program(window)
        os.dup2(low, 0)
        os.dup2(down, 1)
        os.execv(sys.executable, [sys.executable, "-S", "-c", program])

    def _wait_before_program(self, window):
        time.sleep(window)

    @property
    def pids(self):
        return [int(pid) for pid in (self.cgroup / "cgroup.procs").read_text().split()]

    def wait_ready(self):
        assert os.read(self.up, 64) == b"ready\n"
        os.waitpid(self.first, 0)
        (pid,) = self.pids
        return pid

    def end(self):
        os.close(self.input)
        os.close(self.up)
        while self.pids:
            time.sleep(0.01)
        for _ in range(200):
            with contextlib.suppress(OSError):
                self.cgroup.rmdir()
                return
            time.sleep(0.01)


class Pause:
    """What a pod has first: a container of the runtime's own."""

    def __enter__(self):
        self.pid = os.fork()
        if self.pid == 0:
            time.sleep(600)
            os._exit(0)
        self.cgroup = pods_container("5")
        (self.cgroup / "cgroup.procs").write_text(str(self.pid))
        return self

    def __exit__(self, *_):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        self.cgroup.rmdir()


@contextlib.contextmanager
def births(agent, *, busy=False):
    """The thread of the agent that hears of new containers, beside one that computes."""
    stop = threading.Event()
    runs = [threading.Thread(target=agent.engine.births.run, args=(stop, lambda: None))]
    if busy:
        runs.append(threading.Thread(target=_compute, args=(stop,)))
    for run in runs:
        run.start()
    until(lambda: agent.engine.births.is_watching)
    try:
        yield
    finally:
        stop.set()
        agent.engine.births.wake()
        for run in runs:
            run.join()


def _compute(stop):
    while not stop.is_set():
        sum(range(10_000))


def until(done, seconds=20):
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    assert done()


def without_container():
    """The world before the container has an id: what the API server says of a new pod."""
    import dataclasses

    known = world(regions=HEAP)
    (pod,) = known.pods
    new = dataclasses.replace(
        pod, ref=dataclasses.replace(pod.ref, containers=()), container_ids={}, declared=("c",)
    )
    return dataclasses.replace(known, pods=(new,))


def with_container(container_id, **kwargs):
    import dataclasses

    known = world(regions=HEAP, **kwargs)
    (pod,) = known.pods
    return dataclasses.replace(
        known, pods=(dataclasses.replace(pod, container_ids={"c": container_id}),)
    )


def wrong_pages(pid):
    """Pages on node 0 of private anonymous memory that is no stack and no part of an ELF image.

    What an image has beyond its file (bss) is mapped right behind that by the loader.
    """
    born, image_end = set(), ""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, mode, _, _, _, *path = line.split(maxsplit=5)
        start, end = span.split("-")
        is_image = bool(path) and path[0].startswith("/")
        if not is_image and start != image_end and mode == "rw-p" and path in ([], ["[heap]"]):
            born.add(int(start, 16))
        image_end = end if is_image else ""
    found = {}
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        pages = re.search(r" N0=(\d+)", line)
        if pages and int(line.split()[0], 16) in born:
            found[line] = int(pages[1])
    return found


def pages_on_cxl(pid):
    text = Path(f"/proc/{pid}/numa_maps").read_text()
    return sum(map(int, re.findall(r" N1=(\d+)", text)))


def seconds_to_force(agent):
    metric = agent.engine.metrics.birth_duration
    (family,) = metric.collect()
    return next(s.value for s in family.samples if s.name.endswith("_sum"))


def reached(agent):
    (family,) = agent.engine.metrics.births.collect()
    return {s.labels["reached"]: s.value for s in family.samples if s.name.endswith("_total")}


def only_the_shim(agent):
    return agent.until(without_container(), lambda: agent.engine.metrics.shim_defaults._value.get())
