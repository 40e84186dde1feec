# SPDX-License-Identifier: Apache-2.0
"""Where the API server is, as seen from a pod, and what it is when it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from memplace.errors import MemplaceError
from memplace.reasons import Reason

_PORT = "443"


class ApiError(MemplaceError):
    """The API server, or something before it, refused a request.

    Attributes:
        status: The HTTP status, for example 404.
        retry_after_s: Seconds that it asks to be left alone, as with 429; 0 if it does not.
    """

    reason = Reason.API_ERROR
    HELP = "403: compare the ClusterRole with the chart's. 5xx: look at the API server."

    def __init__(self, status: int, message: str, *, retry_after_s: float = 0.0) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(f"{status}: {message}")


class ServerAddress(NamedTuple):
    """Host and port of the API server.

    Attributes:
        host: A name, or an address of IPv4 or IPv6, without brackets.
        port: Its port.
    """

    host: str
    port: int

    @property
    def url(self) -> str:
        """With brackets around IPv6, as RFC 3986 wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


def server_address(env: Mapping[str, str]) -> ServerAddress | None:
    """Return the API server that a pod's environment names, None if it names none.

    The address, not the name: that would need a working DNS.

    Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/.
    """
    host = env.get("KUBERNETES_SERVICE_HOST", "")
    port = env.get("KUBERNETES_SERVICE_PORT", "") or _PORT
    if not host or not (port.isascii() and port.isdecimal()):
        return None
    return ServerAddress(host, int(port))
