# SPDX-License-Identifier: Apache-2.0
"""The runtime holds a container back until it has its default, by NRI.

The runtime's half is containerd's own package; making the container is newborn.Runtime's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.support.guest.harness import HEAP, MIB, ON_CXL, Agent, defaults_of, world
from tests.support.guest.newborn import Pause, Runtime, births, pages_on_cxl, wrong_pages

pytestmark = pytest.mark.guest("patched")

SOCKET = Path("/run/nri/nri.sock")
# An emulated machine takes some fifty times as long as a real one, where these are 0.2 and 2 s.
TIMEOUT_S, RUNTIMES_PATIENCE = 20, "60s"
ON_DRAM = {"Mpol_future": "prefer (many)=static:0 exec"}


class Held(Runtime):
    """A container whose last stage waits until its start goes on, as behind runc's exec.fifo."""

    def __init__(self, letter):
        self._wait, self._go = os.pipe()
        self._tell, self._told = os.pipe()
        super().__init__(letter, window=0)
        os.close(self._wait)
        os.close(self._told)

    def _wait_before_program(self, _window):
        os.close(self._go)
        os.write(self._told, str(os.getpid()).encode())
        os.read(self._wait, 1)

    def wait_created(self):
        """The process that will execute the program."""
        pid = int(os.read(self._tell, 16))
        os.close(self._tell)
        os.waitpid(self.first, 0)
        return pid

    def go(self):
        """Let it."""
        os.write(self._go, b".")
        os.close(self._go)

    def wait_ready(self):
        assert os.read(self.up, 64) == b"ready\n"


@contextlib.contextmanager
def nri(agent):
    """The runtime's half, and the agent's thread; yields what has a container started."""
    from memplace_agent.engine.barrier import Barrier
    from memplace_agent.nri.plugin import NriPlugin

    program = subprocess.Popen(
        [os.environ["MEMPLACE_NRI"], "-socket", SOCKET, "-patience", RUNTIMES_PATIENCE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stop = threading.Event()
    engine = agent.engine
    plugin = NriPlugin(SOCKET, Barrier(engine.births, TIMEOUT_S).start, engine.metrics)
    thread = threading.Thread(target=plugin.run, args=(stop, lambda: None))
    assert json.loads(program.stdout.readline())["event"] == "listening"
    thread.start()
    assert json.loads(program.stdout.readline()) == {"event": "synchronized", "error": ""}
    time.sleep(1)  # only then it is on the runtime's list

    def start(container_id, name, pid):
        one = {"id": container_id, "name": name, "uid": "pu", "pid": pid}
        print(json.dumps(one), file=program.stdin, flush=True)
        told = json.loads(program.stdout.readline())
        assert told["event"] == "started" and told["error"] == "", told
        print("FIGURE held back", name, told["seconds"])

    try:
        yield start
    finally:
        stop.set()
        program.kill()
        program.communicate()
        thread.join()


def two_containers():
    """A pod of two containers that follow two placements: one on each tier."""
    from memplace.api.objects import parse_placement, parse_tier

    known = world(regions=HEAP)
    (pod,) = known.pods
    meta = {"uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    dram = parse_tier(
        {
            "metadata": {**meta, "name": "dram"},
            "spec": {"numaNodes": [0], "nodeNames": ["guest"]},
        }
    )

    def of(name, container, tier):
        rule = {
            "name": "r",
            "regions": HEAP,
            "policy": {"mode": "PreferredMany", "tiers": [tier]},
        }
        metadata = {**meta, "uid": name, "name": name, "namespace": "ns"}
        spec = {"selector": {}, "containers": [container], "rules": [rule]}
        return parse_placement({"metadata": metadata, "spec": spec})

    new = dataclasses.replace(
        pod,
        ref=dataclasses.replace(pod.ref, containers=()),
        container_ids={},
        declared=("far", "near"),
    )
    return dataclasses.replace(
        known,
        pods=(new,),
        tiers=(*known.tiers, dram),
        placements=(of("far", "far", "cxl"), of("near", "near", "dram")),
    )


def test_by_nri_each_container_of_a_pod_has_its_own_default_from_the_first_page():
    agent = Agent()
    agent.reconciler.take(two_containers())
    with births(agent), Pause(), nri(agent) as start:
        found = {}
        for letter, name in (("b", "far"), ("c", "near")):
            container = Held(letter)
            pid = container.wait_created()
            start(container.id, name, pid)
            container.go()
            container.wait_ready()
            found[name] = container, pid
        (far, far_pid), (near, near_pid) = found["far"], found["near"]
        wrong = wrong_pages(far_pid)
        print("FIGURE pages held", {"wrong": sum(wrong.values()), "right": pages_on_cxl(far_pid)})
        assert not wrong, json.dumps(wrong, indent=1)
        assert pages_on_cxl(far_pid) >= 68 * MIB >> 12
        assert defaults_of(far_pid) == ON_CXL and defaults_of(near_pid) == ON_DRAM
        assert not pages_on_cxl(near_pid)
    assert agent.undo()
    assert not defaults_of(far_pid) and not defaults_of(near_pid)
    far.end()
    near.end()
