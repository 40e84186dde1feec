# SPDX-License-Identifier: Apache-2.0
"""A tiny client of the API server, for what kopf does not do: lists, writes, events."""

from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any

import aiohttp
import kopf
from memplace.api.server import ApiError, server_address
from memplace.errors import MemplaceError
from memplace.reasons import Reason
from memplace_kube.client import BadAnswer, seconds_asked

CHUNK = 500
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
# What a request raises while the API server can't be reached.
UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


class LoginFailed(MemplaceError):  # noqa: N818  says what happened
    """There is neither a ServiceAccount nor a kubeconfig."""

    reason = Reason.LOGIN_FAILED
    HELP = "Run it in a pod with a ServiceAccount, or set KUBECONFIG."


class Connection(kopf.ConnectionInfo):
    """A connection that verifies certificates as Kubernetes' own clients do.

    Python 3.13 and later also want extensions that many clusters' certificate authorities
    lack (microk8s, EKS and GKE clusters of some years).
    """

    def as_ssl_context(self) -> ssl.SSLContext:
        """Return a context that verifies chain and name, without X509_V_FLAG_X509_STRICT."""
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def login(settings: kopf.OperatorSettings) -> Connection:
    """Return how to reach the API server: ServiceAccount first, else kubeconfig.

    In a cluster by the address in the environment: a name would need a working DNS,
    which the operator needs for nothing else.

    Raises:
        LoginFailed: There are no credentials.
    """
    info = kopf.login_with_service_account(settings=settings)
    if info is not None:
        address = server_address(os.environ)
        return Connection(
            server=address.url if address else info.server,
            ca_path=info.ca_path,
            token=info.token,
            default_namespace=info.default_namespace,
        )
    info = kopf.login_with_kubeconfig(settings=settings)
    if info is None:
        raise LoginFailed("no ServiceAccount in this pod and no kubeconfig")
    return Connection(**{f.name: getattr(info, f.name) for f in dataclasses.fields(info)})


class KubeApi:
    """An async context manager with one connection pool.

    Raises from each request:
        ApiError: The API server refused.
        BadAnswer: What answers is no API server.
        aiohttp.ClientError, TimeoutError: It can't be reached.
    """

    def __init__(self, settings: kopf.OperatorSettings) -> None:
        self._settings = settings
        self._info = login(settings)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> KubeApi:
        connector = aiohttp.TCPConnector(ssl=self._info.as_ssl_context())
        self._session = aiohttp.ClientSession(connector=connector, timeout=TIMEOUT)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        accept: str = "application/json",
        **query: str,
    ) -> dict[str, Any]:
        """Make one request; PATCH is a merge patch."""
        patch = "merge-patch+" if method == "PATCH" else ""
        headers = {"Accept": accept, "Content-Type": f"application/{patch}json"}
        for attempt in (1, 2):
            headers.update(self._info.as_http_headers())
            async with self._session.request(
                method,
                self._info.server.rstrip("/") + path,
                json=body,
                params=query,
                headers=headers,
            ) as response:
                # Tokens of a ServiceAccount are short-lived; the file has a new one.
                if response.status == 401 and attempt == 1:
                    self._info = login(self._settings)
                    continue
                return await _answer(response)
        raise AssertionError("unreachable")

    @property
    def namespace(self) -> str:
        """The namespace that the operator runs in, which is the agents' too."""
        return self._info.default_namespace or "default"

    async def objects(
        self, path: str, *, metadata_only: bool = False, **first: str
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield all objects of a collection, listed in chunks; `first` is for the first one."""
        accept = _METADATA_ONLY if metadata_only else "application/json"
        query = {"limit": str(CHUNK), **first}
        while True:
            page = await self.request("GET", path, accept=accept, **query)
            # An empty list of metadata only has "items": null.
            for item in page.get("items") or ():
                yield item
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            query["continue"] = token
            # It stands in the token, and may not be given beside it.
            query.pop("resourceVersion", None)


async def _answer(response: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        parsed: Any = await response.json(content_type=None)
    except (ValueError, RecursionError):
        parsed = None
    is_object = isinstance(parsed, dict)
    if response.status >= 300:
        message = str(parsed.get("message", "")) if is_object else response.reason or ""
        asked = seconds_asked(response.headers.get("Retry-After"))
        raise ApiError(response.status, message, retry_after_s=asked)
    if not is_object:
        raise BadAnswer(f"no JSON object in the answer to {response.method} {response.url.path}")
    return dict(parsed)
