# SPDX-License-Identifier: Apache-2.0
"""Steps of guest.py: a container that is being made has its default before its program runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from pathlib import Path

from harness import MIB, Agent, defaults_of, scope, world
from later import HEAP, ON_CXL

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


def a_new_container_has_its_default_before_its_program(busy=False):
    agent = Agent()
    agent.reconciler.take(without_container())
    with births(agent, busy=busy), Pause() as pause:
        time.sleep(0.1)
        container = Runtime("b")
        pid = container.wait_ready()
        wrong, right = wrong_pages(pid), pages_on_cxl(pid)
        print("FIGURE pages", {"wrong": sum(wrong.values()), "right": right})
        assert not wrong, json.dumps(wrong, indent=1)
        assert right >= 68 * MIB >> 12, right
        assert defaults_of(pid) == ON_CXL, defaults_of(pid)
        assert not defaults_of(pause.pid)
        until(lambda: reached(agent))
    print("FIGURE busy", busy, reached(agent), "in force after", seconds_to_force(agent))
    # The worker takes it over as its own, one that starts anew, too.
    agent = Agent()
    found = agent.settle(with_container(container.id))
    assert found.state == "Placed" and found.rules[0].own_regions == 0, found
    assert not agent.engine.metrics.apply.labels("failed", "")._value.get()
    assert agent.undo()
    assert not defaults_of(pid)
    assert not list(Path("/run/memplace").iterdir())
    container.end()


def the_same_beside_a_thread_that_computes():
    a_new_container_has_its_default_before_its_program(busy=True)


def what_was_set_before_a_look_is_undone_by_an_agent_that_never_looked():
    agent = Agent()
    agent.reconciler.take(without_container())
    with births(agent), Pause():
        container = Runtime("c")
        pid = container.wait_ready()
    assert defaults_of(pid) == ON_CXL
    agent = Agent()
    assert agent.undo()
    assert not defaults_of(pid)
    text = Path(f"/proc/{pid}/numa_maps").read_text()
    assert {line.split()[1] for line in text.splitlines()} == {"default"}, text
    container.end()
