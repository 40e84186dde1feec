# SPDX-License-Identifier: Apache-2.0
"""Ask the agent on loopback."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection, HTTPException
from typing import Any

from memplace_agent.cli.errors import CommandFailed, Exit

# It answers when the thread that decides comes to it; a node may be busy.
_PATIENCE_S = 30.0
_TIMEOUT_S = 10.0
_LARGEST = 64 << 20


def ask(port: int, path: str) -> tuple[dict[str, Any], bytes]:
    """Return the document at a path, parsed and as it came.

    Raises:
        CommandFailed: Nobody listens, or the agent says no; its message says why.
    """
    until = time.monotonic() + _PATIENCE_S
    while True:
        status, body = _get(port, path)
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise CommandFailed(Exit.FAILED, f"what listens on port {port} is not the agent")
        if status == 200:
            return document, body
        if status != 503 or time.monotonic() > until:
            found = Exit.NO_PROCESS if status == 404 else Exit.FAILED
            raise CommandFailed(found, str(document.get("problem", f"HTTP status {status}")))


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(_LARGEST)
    except (OSError, HTTPException) as err:
        raise CommandFailed(
            Exit.FAILED,
            f"no agent answers on 127.0.0.1:{port} ({err}): run this where the agent runs "
            "(kubectl exec), or forward its port; the chart's agent.explainPort turns it on",
        ) from err
    finally:
        connection.close()
