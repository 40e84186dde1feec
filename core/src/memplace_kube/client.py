# SPDX-License-Identifier: Apache-2.0
"""A small client of the API server: one request, or one watch, over one connection.

On http.client and ssl, see docs/adr/0012: the agent runs on every node, needs four paths,
and has to bound what it reads and how long it waits; the operator reads ten times 10,000
objects and may not hold a page of them twice.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from memplace.api.server import ApiError, server_address
from memplace.errors import MemplaceError
from memplace.reasons import Reason
from memplace.structs import prepared

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

# What the API server may take to say the next thing within one answer.
TIMEOUT_S = 10.0
# For a whole answer that is no watch.
ANSWER_S = 60.0
# A list of 10,000 placements has about 40 MiB, one object at most 1.5 MiB in etcd.
ANSWER_MAX = 64 << 20
LINE_MAX = 8 << 20
_CHUNK = 64 << 10
_MESSAGE_MAX = 300
# Whoever asks to be left alone for longer is no API server.
RETRY_AFTER_MAX_S = 30.0

Query = Mapping[str, str]
JSON = "application/json"


class BadAnswer(MemplaceError):  # noqa: N818  says what happened
    """An answer is no JSON, too large, or takes too long."""

    reason = Reason.API_ERROR
    HELP = "Look at what stands before the API server: a proxy, a balancer."


class LoginFailed(MemplaceError):  # noqa: N818  says what happened
    """The pod has no ServiceAccount to speak for."""

    reason = Reason.LOGIN_FAILED
    HELP = "Run it in a pod, with automountServiceAccountToken: true."


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the API server is, and who speaks to it.

    Attributes:
        host: Name or address.
        port: Its port.
        context: For TLS; None speaks plain HTTP, to a proxy on loopback.
        token: File with the bearer token, read for each request: the kubelet renews it.
        bearer: The token itself, when it is in no file.
        namespace: The pod's own.
        user_agent: How we call ourselves.
    """

    host: str
    port: int
    context: ssl.SSLContext | None = None
    token: Path | None = None
    bearer: str = ""
    namespace: str = ""
    user_agent: str = "memplace-agent"

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection that is opened with the first request."""
        if self.context is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(
            self.host, self.port, timeout=TIMEOUT_S, context=self.context
        )


def in_cluster(
    env: Mapping[str, str], account: Path = SERVICE_ACCOUNT, *, user_agent: str = "memplace-agent"
) -> Server:
    """Return the server that a pod's environment and ServiceAccount name.

    Raises:
        LoginFailed: This is no pod, or it has no token.
    """
    address = server_address(env)
    token, authority = account / "token", account / "ca.crt"
    if address is None or not token.exists():
        raise LoginFailed("no ServiceAccount in this pod")
    try:
        context = tls(authority)
    except OSError as err:
        raise LoginFailed(f"{authority}: {err}") from err
    return Server(
        host=address.host,
        port=address.port,
        context=context,
        token=token,
        namespace=_namespace(account),
        user_agent=user_agent,
    )


def _namespace(account: Path) -> str:
    try:
        return (account / "namespace").read_text().strip()
    except OSError:
        return ""


def tls(authority: Path) -> ssl.SSLContext:
    """Return a context that verifies as Kubernetes' own clients do.

    Python 3.13 and later also want extensions that many clusters' certificate authorities
    lack (microk8s, EKS and GKE clusters of some years).
    """
    context = ssl.create_default_context(cafile=str(authority))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@prepared
class _Failure(msgspec.Struct):
    """What is read of a metav1.Status."""

    message: str = ""


class ApiClient:
    """For one thread at a time: it keeps one connection open between requests.

    Raises from each request:
        ApiError: It was refused; redirects count as that.
        BadAnswer: The answer makes no sense, or is too large or too slow.
        OSError, http.client.HTTPException: There was none.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str, query: Query | None = None, *, accept: str = JSON) -> bytes:
        """Return the body of an answer, in the form that is asked for."""
        return self._call("GET", path, query, None, accept)

    def patch(self, path: str, body: Any) -> bytes:
        """Make a merge patch; returns the object as it is then."""
        return self._call("PATCH", path, None, body)

    def post(self, path: str, body: Any) -> bytes:
        """Create an object; returns it."""
        return self._call("POST", path, None, body)

    def put(self, path: str, body: Any) -> bytes:
        """Replace an object, of the resourceVersion in it; returns it as it is then."""
        return self._call("PUT", path, None, body)

    def delete(self, path: str, body: Any) -> bytes:
        """Delete an object, with metav1.DeleteOptions."""
        return self._call("DELETE", path, None, body)

    def lines(
        self, path: str, query: Query, *, silence_s: float, total_s: float, accept: str = JSON
    ) -> Iterator[bytes]:
        """Yield the lines of a long answer as they come.

        Args:
            path: A collection's.
            query: Of a watch.
            silence_s: Seconds without a byte after which it counts as dead (TimeoutError).
            total_s: Seconds after which it is given up even if it trickles (BadAnswer).
            accept: The form that is asked for.
        """
        response = self._send("GET", path, query, None, silence_s=silence_s, accept=accept)
        deadline = time.monotonic() + total_s
        rest = b""
        try:
            while chunk := response.read1(_CHUNK):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from filter(None, whole)
                if len(rest) > LINE_MAX:
                    raise BadAnswer(f"a line of more than {LINE_MAX} bytes")
                if time.monotonic() > deadline:
                    raise BadAnswer(f"a watch did not end within {total_s:.0f} s")
            response.close()
        except BaseException:
            # What is left of this answer would be taken for the next one.
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _call(
        self, method: str, path: str, query: Query | None, body: Any, accept: str = JSON
    ) -> bytes:
        response = self._send(method, path, query or {}, body, silence_s=TIMEOUT_S, accept=accept)
        return self._read(response, ANSWER_MAX)

    def _send(
        self, method: str, path: str, query: Query, body: Any, *, silence_s: float, accept: str
    ) -> http.client.HTTPResponse:
        url = f"{path}?{urlencode(query)}" if query else path
        content = None if body is None else msgspec.json.encode(body)
        try:
            response = self._exchange(method, url, content, silence_s, accept)
            if response.status >= 300:
                raise self._refusal(response)
        except BaseException:
            self.close()
            raise
        return response

    def _exchange(
        self, method: str, url: str, content: bytes | None, silence_s: float, accept: str
    ) -> http.client.HTTPResponse:
        headers = self._headers(method, accept)
        if self._connection is not None:
            # The other side may have closed it meanwhile. Asking twice does no harm: reads and
            # merge patches have the same effect, what has a name or a version is refused the
            # second time, and an event that is told twice is told.
            try:
                return self._once(method, url, content, headers, silence_s)
            except (ConnectionError, http.client.RemoteDisconnected, ssl.SSLEOFError):
                self.close()
        return self._once(method, url, content, headers, silence_s)

    def _once(
        self,
        method: str,
        url: str,
        content: bytes | None,
        headers: Mapping[str, str],
        silence_s: float,
    ) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = self.server.connect()
        connection = self._connection
        if connection.sock is not None:
            connection.sock.settimeout(TIMEOUT_S)
        connection.request(method, url, content, dict(headers))
        response = connection.getresponse()
        if connection.sock is not None:
            connection.sock.settimeout(silence_s)
        return response

    def _headers(self, method: str, accept: str) -> dict[str, str]:
        patch = "merge-patch+" if method == "PATCH" else ""
        headers = {
            "Accept": accept,
            "Content-Type": f"application/{patch}json",
            "User-Agent": self.server.user_agent,
        }
        bearer = self.server.bearer
        if self.server.token is not None:
            bearer = self.server.token.read_text().strip()
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        return headers

    def _read(self, response: http.client.HTTPResponse, most: int) -> bytes:
        deadline = time.monotonic() + ANSWER_S
        content = bytearray()
        try:
            while chunk := response.read1(_CHUNK):
                content += chunk
                if len(content) > most:
                    raise BadAnswer(f"an answer of more than {most} bytes")
                if time.monotonic() > deadline:
                    raise BadAnswer(f"an answer that took more than {ANSWER_S:.0f} s")
            if response.length:
                raise http.client.IncompleteRead(bytes(content), response.length)
            # read1() does so only from Python 3.11.8 and 3.12.2 on. Left open, it keeps its
            # connection from the next request.
            response.close()
        except BaseException:
            self.close()
            raise
        return bytes(content)

    def _refusal(self, response: http.client.HTTPResponse) -> ApiError:
        # Whatever stands in between may answer, too: nothing is expected of what it says.
        text = self._read(response, ANSWER_MAX)
        try:
            message = msgspec.json.decode(text, type=_Failure).message
        except msgspec.MsgspecError:
            message = text.decode(errors="replace")
        message = " ".join(message.split()) or response.reason or "no reason given"
        delay = seconds_asked(response.getheader("Retry-After"))
        return ApiError(response.status, message[:_MESSAGE_MAX], retry_after_s=delay)


def seconds_asked(retry_after: str | None) -> float:
    """Return for how long a Retry-After asks to be left alone: not for years; 0 for a date."""
    text = retry_after or ""
    asked = float(text) if text.isascii() and text.isdecimal() else 0.0
    return min(asked, RETRY_AFTER_MAX_S)
