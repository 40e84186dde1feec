# SPDX-License-Identifier: Apache-2.0
"""How a command ends: exit statuses, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum

from memplace.errors import MemplaceError


class Exit(IntEnum):
    """Exit statuses; docs/kubectl-memplace.md has them."""

    OK = 0
    WRONG = 1  # doctor or plan found something wrong, or the command failed
    USAGE = 2  # also: a manifest that is wrong
    NOT_THERE = 3  # no such pod, container, placement or context, or no memplace in the cluster
    NOT_PERMITTED = 4  # 401 or 403 for what a command can't do without
    UNREACHABLE = 5  # no cluster answers, or no kubeconfig says where one is


class CommandFailed(MemplaceError):  # noqa: N818  says what happened
    """A command can't do what it was asked for; the message says why, and what to do."""

    def __init__(self, status: Exit, message: str) -> None:
        self.status = status
        super().__init__(message)


class Refused(CommandFailed):
    """The API server answered with an HTTP status that is an error.

    Attributes:
        code: The HTTP status, for example 403.
        said: Its message.
    """

    def __init__(self, code: int, said: str) -> None:
        self.code, self.said = code, said
        status = {401: Exit.NOT_PERMITTED, 403: Exit.NOT_PERMITTED, 404: Exit.NOT_THERE}
        super().__init__(status.get(code, Exit.WRONG), f"the API server refused: {said} ({code})")
