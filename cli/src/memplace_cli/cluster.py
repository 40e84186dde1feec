# SPDX-License-Identifier: Apache-2.0
"""The API server, as kubectl would reach it: by kubeconfig, context and namespace.

Objects come as plain data, since memplace's own parsers know their fields.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from memplace_cli.errors import CommandFailed, Exit, Refused

# Who the API server says wrote a field.
MANAGER = "kubectl-memplace"
_CHUNK = 500
# Objects without what is in them.
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
# All of what the API server checks, and nothing stored.
_DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict"}
# Seconds to connect, and between two parts of an answer.
_TIMEOUT_S = (5, 30)

_Json = dict[str, Any]


class Cluster:
    """An API server and the namespace that is meant where none is named.

    Raises from each request:
        Refused: The API server answered with an error.
        CommandFailed: It can't be reached.
    """

    def __init__(
        self, api: Any, namespace: str, timeout_s: tuple[float, float] = _TIMEOUT_S
    ) -> None:
        self._api = api
        self._timeout_s = timeout_s
        self.namespace = namespace

    def get(self, path: str, *, accept: str = "application/json", **query: str) -> _Json:
        """Return the object, or the page of a list, at a path."""
        return self._call("GET", path, query, accept=accept)

    def patch(self, path: str, change: _Json) -> _Json:
        """Change fields of the object at a path (a merge patch); returns the object."""
        return self._call("PATCH", path, {"fieldManager": MANAGER}, change)

    def try_create(self, path: str, obj: _Json) -> None:
        """Ask whether an object could be created in a collection; nothing is created."""
        self._call("POST", path, {"fieldManager": MANAGER, **_DRY_RUN}, obj)

    def try_patch(self, path: str, change: _Json) -> None:
        """Ask whether `patch` would be taken; nothing is changed."""
        self._call("PATCH", path, {"fieldManager": MANAGER, **_DRY_RUN}, change)

    def names(self, path: str) -> list[str]:
        """Return names of objects of a collection: the first some hundreds, and no more of them."""
        page = self._call("GET", path, {"limit": str(_CHUNK)}, accept=_METADATA_ONLY)
        return [str(each["metadata"]["name"]) for each in page.get("items") or ()]

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: _Json | None = None,
        *,
        accept: str = "application/json",
    ) -> _Json:
        headers = {"Accept": accept, "User-Agent": MANAGER}
        if body is not None:
            form = "merge-patch+json" if method == "PATCH" else "json"
            headers["Content-Type"] = f"application/{form}"
        parts = self._api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._api.call_api(*parts, _request_timeout=self._timeout_s)
            content = response.read()
        except ApiException as err:
            # Without a status: what kept the answer from coming, such as a certificate.
            raise self._unreachable(str(err.reason or err)) from err
        except urllib3.exceptions.HTTPError as err:
            raise self._unreachable(_innermost(err)) from err
        if response.status >= 300:
            raise Refused(response.status, _message(content, response.reason))
        try:
            answer = json.loads(content)
        except ValueError as err:
            raise self._unreachable("what answers there does not speak JSON") from err
        if not isinstance(answer, dict):
            raise self._unreachable("what answers there is no API server")
        return answer

    def objects(self, path: str, **query: str) -> Iterator[_Json]:
        """Yield all objects of a collection, which is listed in chunks."""
        return self._listed(path, "application/json", query)

    def heads(self, path: str) -> Iterator[_Json]:
        """Yield the metadata of all objects of a collection."""
        return (each["metadata"] for each in self._listed(path, _METADATA_ONLY, {}))

    def _listed(self, path: str, accept: str, query: dict[str, str]) -> Iterator[_Json]:
        query["limit"] = str(_CHUNK)
        while True:
            page = self.get(path, accept=accept, **query)
            yield from page.get("items") or ()
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            query["continue"] = token

    def _unreachable(self, why: str) -> CommandFailed:
        host = urlsplit(self._api.configuration.host).netloc
        return CommandFailed(
            Exit.UNREACHABLE,
            f"no answer from the API server at {host}: {why}. Compare with kubectl version, and "
            "look at --context and --kubeconfig.",
        )


def context_names(kubeconfig: str = "") -> list[str]:
    """Return the contexts of a kubeconfig; of the usual one if none is named."""
    contexts, _ = config.list_kube_config_contexts(kubeconfig or None)
    return [str(each["name"]) for each in contexts]


def connect(
    *,
    kubeconfig: str = "",
    context: str = "",
    namespace: str = "",
    timeout_s: tuple[float, float] = _TIMEOUT_S,
) -> Cluster:
    """Return the cluster that kubectl would take.

    Args:
        kubeconfig: A file; empty for $KUBECONFIG, or ~/.kube/config.
        context: One of its contexts; empty for the current one.
        namespace: Instead of the context's.
        timeout_s: Seconds to connect, and between two parts of an answer.

    Raises:
        CommandFailed: There is no kubeconfig, or no such context in it.
    """
    settings = client.Configuration()
    # Three tries with no pause between them find out nothing that one does not.
    settings.retries = False
    try:
        contexts, current = config.list_kube_config_contexts(kubeconfig or None)
        chosen = _chosen(contexts, current, context)
        config.load_kube_config(
            kubeconfig or None,
            context=chosen["name"],
            client_configuration=settings,
            persist_config=False,
        )
    except (ConfigException, OSError, ValueError, KeyError, TypeError) as err:
        problem = (str(err) or type(err).__name__).rstrip(".")
        raise CommandFailed(
            Exit.UNREACHABLE,
            f"the kubeconfig can't be used: {problem}. Name one with --kubeconfig or KUBECONFIG.",
        ) from err
    api = client.ApiClient(settings)
    _as_others_verify(api, settings)
    return Cluster(api, namespace or chosen["context"].get("namespace") or "default", timeout_s)


def _chosen(contexts: list[Any], current: Any, name: str) -> Any:
    if not name:
        return current
    found = next((each for each in contexts if each["name"] == name), None)
    if found is None:
        names = ", ".join(sorted(each["name"] for each in contexts)) or "none"
        raise CommandFailed(
            Exit.NOT_THERE, f"the kubeconfig has no context {name!r}; it has: {names}"
        )
    return found


def _as_others_verify(api: Any, settings: Any) -> None:
    # Python 3.13 wants extensions of certificate authorities that many clusters' lack (EKS and
    # GKE clusters of some years), and that no client of Kubernetes asks for. The chain and the
    # name are verified all the same.
    if not settings.verify_ssl:
        return
    trusted = ssl.create_default_context(cafile=settings.ssl_ca_cert or None)
    trusted.verify_flags &= ~ssl.VERIFY_X509_STRICT
    api.rest_client.pool_manager.connection_pool_kw["ssl_context"] = trusted


def _message(content: bytes, reason: str | None) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return reason or "no message"


def _innermost(err: Exception) -> str:
    inner = getattr(err, "reason", None) or err
    text = str(inner)
    # urllib3 puts the object's repr before what happened.
    return text.rpartition(": ")[2] if "object at 0x" in text else text
