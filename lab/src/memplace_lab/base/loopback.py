# SPDX-License-Identifier: Apache-2.0
"""Ports of this machine: some that are free, and what programs say on theirs."""

from __future__ import annotations

import contextlib
import socket
import urllib.error
import urllib.request


def free_ports(count: int) -> list[int]:
    """Return TCP ports of 127.0.0.1 that nobody has just now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody has just now."""
    return free_ports(1)[0]


def ask(port: int, path: str, *, timeout_s: float = 5) -> tuple[int, str]:
    """Return the status and the text of a plain HTTP answer; status 0 and why, if there is none."""
    try:
        url = f"http://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as err:
        return err.code, err.read().decode()
    except OSError as err:
        return 0, str(err)
