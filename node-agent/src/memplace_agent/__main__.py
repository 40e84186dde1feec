# SPDX-License-Identifier: Apache-2.0
"""``python3 -m memplace_agent``: run the agent, or install its seccomp profile."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

USAGE = "usage: python3 -m memplace_agent [run | install-seccomp DIR]"


def main(args: Sequence[str]) -> int:
    """Run a command; returns the exit status."""
    match args:
        case [] | ["run"]:
            return _run()
        case ["install-seccomp", directory]:
            # Nothing else is imported: this is a container of its own at each start.
            from memplace_agent.seccomp import install

            print(install(Path(directory)))
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
