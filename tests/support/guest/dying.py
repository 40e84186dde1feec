# SPDX-License-Identifier: Apache-2.0
"""An agent that does one thing and is killed in the middle of it.

    python -m tests.support.guest.dying WHEN

once            looks at the world until it is settled, if nobody kills it
before, after   ends before its call on a shim, or right after it
long after      ends at peace
"""

from __future__ import annotations

import os
import signal
import sys

from tests.support.guest.harness import AGENT, Agent, keep_capabilities, world
from tests.support.guest.newborn import only_the_shim


def killed(when):
    from memplace_agent.syscalls import RunningKernel

    call = RunningKernel.set_future

    def set_future(*args):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        call(*args)
        if when == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    RunningKernel.set_future = set_future  # type: ignore[method-assign]
    only_the_shim(Agent(shims=True))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    keep_capabilities(*AGENT)
    if sys.argv[1] == "once":
        Agent().settle(world())
    else:
        killed(sys.argv[1])
