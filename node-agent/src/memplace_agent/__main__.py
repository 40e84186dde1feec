# SPDX-License-Identifier: Apache-2.0
"""``python3 -m memplace_agent``: run the agent, look at a process, or install a profile."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

USAGE = """\
usage: memplace-agent [run]                place the memory of this node's pods
       memplace-agent machine              show this machine's tiers, and what the kernel can do
       memplace-agent inspect --pid PID    show a process's memory, and what rules would do to it
       memplace-agent explain [NAMESPACE/POD[/CONTAINER]]
                                           ask the agent of this node about its containers
       memplace-agent install-seccomp DIR  write the agent's seccomp profile into DIR"""


def main(args: Sequence[str]) -> int:
    """Run a command; returns the exit status."""
    match args:
        case [] | ["run"]:
            return _run()
        case ["install-seccomp", directory]:
            # Little else is imported: this is a container of its own at each start.
            from memplace_agent.hostfs import HostFs
            from memplace_agent.seccomp import install

            print(install(Path(directory), HostFs()))
            return 0
        # The daemon needs none of what these import.
        case ["inspect", *rest]:
            from memplace_agent.cli import inspect

            return inspect.main(rest)
        case ["machine", *rest]:
            from memplace_agent.cli import machine

            return machine.main(rest)
        case ["explain", *rest]:
            from memplace_agent.cli import explain

            return explain.main(rest)
        case ["-h" | "--help"]:
            print(USAGE)
            return 0
        case _:
            print(USAGE, file=sys.stderr)
            return 2


def _run() -> int:
    from memplace.errors import MemplaceError

    from memplace_agent import app, log
    from memplace_agent.settings import settings_from_env

    try:
        settings = settings_from_env(os.environ)
        log.configure(settings.log_level)
        app.run(settings)
    except MemplaceError as err:
        print(err, err.HELP, file=sys.stderr)
        return 2
    return 0


def entry() -> int:
    """Start as ``memplace-agent``."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(entry())
