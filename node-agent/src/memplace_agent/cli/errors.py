# SPDX-License-Identifier: Apache-2.0
"""How a command ends: exit statuses, and the error that carries one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum

from memplace.errors import MemplaceError

from memplace_agent.cli.screen import close_output


class Exit(IntEnum):
    """Exit statuses; docs/inspect.md has them."""

    OK = 0
    FAILED = 1
    USAGE = 2  # an option or a manifest
    NO_PROCESS = 3  # it does not exist, has ended, or has no memory
    NOT_PERMITTED = 4
    NO_KERNEL = 5  # --apply or --undo of what this kernel has no call for
    NOT_WHOLE = 6  # --apply or --undo did a part


class CommandFailed(MemplaceError):  # noqa: N818  says what happened
    """A command can't do what it was asked for; the message says why, and what to do."""

    def __init__(self, status: Exit, message: str) -> None:
        self.status = status
        super().__init__(message)


def status_of(run: Callable[[], int]) -> int:
    """Run a command to its end; the exit status, and on standard error what was in the way."""
    try:
        status = run()
        sys.stdout.flush()
        return status
    except CommandFailed as err:
        print(f"memplace-agent: {err}", file=sys.stderr)
        return err.status
    except MemplaceError as err:
        print(f"memplace-agent: {err}. {err.HELP}", file=sys.stderr)
        return Exit.FAILED
    except BrokenPipeError:
        close_output()
        return Exit.OK
    except KeyboardInterrupt:
        return Exit.FAILED
