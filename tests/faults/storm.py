# SPDX-License-Identifier: Apache-2.0
"""An agent looks at a container whose processes fork and exec as fast as they can.

python3 -m tests.faults.storm PROCESSES     as process 1 of a pid namespace, as root
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from memplace.ledger import images_of

from tests.faults.real import RealMachine, count_fds, real_node
from tests.support.agent.node import placement, rule
from tests.support.agent.tables import tables
from tests.support.cgroups import tree

_STORM = """
import os, sys, time
print("ready", flush=True)
alive = 0
for number in range(int(sys.argv[1])):
    if alive == 15:
        os.wait()
        alive -= 1
    if os.fork() == 0:
        if number % 3 == 0:
            os.execv("/bin/true", ["true"])
        if number % 3 == 1:
            os.execv("/bin/sh", ["sh", "-c", "exec sh -c 'sleep 0.2; exec true'"])
        time.sleep(number % 7 / 100)
        os._exit(0)
    alive += 1
print("over", flush=True)
sys.stdin.read()
"""


def reap():
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            os.waitpid(-1, os.WNOHANG)


def is_over(child):
    os.set_blocking(child.stdout.fileno(), False)
    return child.stdout.readline() == "over\n"


def settle(node):
    """The agent is told that there is nothing, and has the time to believe it."""
    node.full(seconds=60)
    node.full(pods=[], seconds=60)


def count_images(node):
    claim = node.store.get("a" * 64)
    return len(images_of(claim)) if claim else 0


def main(processes):
    with tempfile.TemporaryDirectory() as root, tree() as top:
        machine = RealMachine(top, Path(root) / "machine")
        node = real_node(machine)
        settle(node)
        fds, before = count_fds(), tables(node.engine)
        wanted = placement(rules=[rule({"type": "Heap"}, "PreferredMany", "dram")])
        child = machine.start("a" * 64, _STORM, processes)
        fullest, images = 0, [0]
        while not is_over(child):
            node.full(wanted)
            fullest = max(fullest, sum(tables(node.engine).values()))
            images.append(count_images(node))
        # Its parent has lived through all of it.
        reap()
        node.full(wanted, seconds=60)
        assert child.poll() is None
        images.append(count_images(node))
        child.communicate()
        reap()
        settle(node)
        after = tables(node.engine)
        print("opened", machine.opened, "calls", machine.calls, "images", max(images), images[-1])
        assert fullest > sum(before.values())
        assert before == after, sorted(after.items() ^ before.items())
        assert count_fds() == fds, f"{fds} descriptors before, {count_fds()} after"
        assert not list(node.store)


if __name__ == "__main__":
    main(int(sys.argv[1]))
