# SPDX-License-Identifier: Apache-2.0
"""A container runtime's half of NRI: containerd's own package in a program."""

import json
import subprocess
import time

from memplace_lab.cluster.nri import build_adaptation

SYNCHRONIZED = {"event": "synchronized", "error": ""}


class Runtime:
    """A program with containerd's adaptation; a test tells it what starts."""

    def __init__(self, version, socket, running=0):
        self.version = version
        self.program = subprocess.Popen(
            [build_adaptation(version), "-socket", socket, "-running", str(running)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.next()["event"] == "listening"

    def next(self):
        assert self.program.stdout is not None
        line = self.program.stdout.readline()
        assert line, "the runtime has ended"
        return json.loads(line)

    def wait_synchronized(self):
        assert self.next() == SYNCHRONIZED
        # Only then it puts the plugin on its list.
        time.sleep(0.1)

    def begin(self, container_id, pid, name="c0", uid="uid-p"):
        assert self.program.stdin is not None
        one = {"id": container_id, "name": name, "uid": uid, "pid": pid}
        self.program.stdin.write(json.dumps(one) + "\n")
        self.program.stdin.flush()

    def start(self, *args, **kwargs):
        """Seconds that the start of a container took, which must not fail."""
        self.begin(*args, **kwargs)
        return self.started()

    def started(self):
        told = self.next()
        while told == SYNCHRONIZED:  # another agent has connected meanwhile
            told = self.next()
        assert told["event"] == "started" and told["error"] == "", told
        return float(told["seconds"])

    def end(self):
        self.program.kill()
        self.program.communicate()
