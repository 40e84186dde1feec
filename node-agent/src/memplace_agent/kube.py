# SPDX-License-Identifier: Apache-2.0
"""The API server: watches fill the cache, a publisher writes the NodeMemory.

The only importer of lightkube. Generic resources only: the typed models take a slow node
seconds to import, and the agent looks at few fields. Nothing here ever gives up: while the
API server is away the agent works from the cache.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
from lightkube import ApiError, Client, KubeConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.generic_resource import (
    GenericNamespacedResource,
    create_api_info,
    create_global_resource,
    create_namespaced_resource,
)
from lightkube.types import PatchType
from memplace.api.convert import to_builtins
from memplace.api.liveness import HEARTBEAT_S
from memplace.api.v1alpha1 import GROUP, VERSION, NodeMemoryStatus

from memplace_agent.world import Cache, Kind

__all__ = ["Publisher", "Watcher", "connect", "start_watches"]

log = logging.getLogger(__name__)

# The server ends a watch after this time; the client gives up on silence a bit later, so
# that a connection that is dead without a word does not last.
WATCH_S = 240
_SILENCE_S = WATCH_S + 30

_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0)


class _Pod(GenericNamespacedResource):
    # The core group, which create_namespaced_resource() takes for one of lightkube's models.
    _api_info = create_api_info("", "v1", "Pod", "pods")


_PLACEMENTS = create_namespaced_resource(GROUP, VERSION, "MemoryPlacement", "memoryplacements")
_TIERS = create_global_resource(GROUP, VERSION, "MemoryTier", "memorytiers")
_NODE_MEMORIES = create_global_resource(GROUP, VERSION, "NodeMemory", "nodememories")


def connect() -> Client:
    """Return a client with the ServiceAccount's, or the user's, credentials."""
    config = KubeConfig.from_env().get()
    assert config is not None and config.user is not None
    context = verify_cluster(config.cluster, config.user, config.abs_file)
    # As Kubernetes' own clients verify: Python 3.13 and later also want extensions that many
    # clusters' certificate authorities lack (microk8s, EKS and GKE clusters of some years).
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    transport = httpx2.HTTPTransport(verify=context)
    client = Client(config, timeout=httpx2.Timeout(10), transport=transport)
    # lightkube lets watches wait for ever (1.0); a half-open connection then never ends.
    client._client._watch_timeout.read = _SILENCE_S
    return client


def _backoff(failures: int) -> float:
    return _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)] * random.uniform(0.5, 1.5)


@dataclass(frozen=True, slots=True)
class Watcher:
    """Keeps one kind in the cache: list, watch from there, and again from the list.

    Attributes:
        client: The API server.
        cache: What to fill.
        kind: What this is about.
        resource: lightkube's class for it.
        fields: Field selector; empty for all.
        namespaced: Watch in all namespaces.
    """

    client: Client
    cache: Cache
    kind: Kind
    resource: Any
    fields: dict[str, str]
    namespaced: bool

    def run(self, stop: threading.Event) -> None:
        """Follow the kind until told to stop."""
        failures = 0
        while not stop.is_set():
            try:
                self._list_and_watch(stop)
                failures = 0
            except (ApiError, httpx2.HTTPError, OSError, ValueError, msgspec.MsgspecError) as err:
                self._log(err, failures)
                stop.wait(_backoff(failures))
                failures += 1

    def _list_and_watch(self, stop: threading.Event) -> None:
        options: dict[str, Any] = {"fields": self.fields or None}
        if self.namespaced:
            options["namespace"] = "*"
        listed = self.client.list(self.resource, **options)
        self.cache.replace(self.kind, list(listed))
        version = listed.resourceVersion
        while not stop.is_set():
            for type_, obj in self.client.watch(
                self.resource, server_timeout=WATCH_S, resource_version=version, **options
            ):
                self.cache.event(self.kind, type_, obj)
                version = obj.metadata.resourceVersion

    def _log(self, err: Exception, failures: int) -> None:
        # Before the CRDs are installed there is nothing to say, and 410 is how watches end.
        expected = isinstance(err, ApiError) and err.status.code in (404, 410)
        level = logging.DEBUG if expected or failures else logging.WARNING
        log.log(level, "watch failed", extra={"kind": self.kind.value, "error": str(err)})


def start_watches(client: Client, cache: Cache, node_name: str, stop: threading.Event) -> None:
    """Start a thread for each kind; they end with the process."""
    own_pods, own_name = {"spec.nodeName": node_name}, {"metadata.name": node_name}
    watchers = (
        Watcher(client, cache, Kind.PLACEMENT, _PLACEMENTS, {}, True),
        Watcher(client, cache, Kind.TIER, _TIERS, {}, False),
        Watcher(client, cache, Kind.POD, _Pod, own_pods, True),
        Watcher(client, cache, Kind.NODE_MEMORY, _NODE_MEMORIES, own_name, False),
    )
    for watcher in watchers:
        name = f"watch-{watcher.kind.value}"
        threading.Thread(target=watcher.run, args=(stop,), name=name, daemon=True).start()


class Publisher:
    """Writes the latest status, at once when it changed and as a heartbeat otherwise.

    Statuses that were overtaken are never written. The heartbeat stops when the worker
    does, so that an agent that hangs looks like one that is away.
    """

    def __init__(self, client: Client, node_name: str, alive: Callable[[], bool]) -> None:
        self._client = client
        self._name = node_name
        self._alive = alive
        self._wake = threading.Event()
        self._latest: NodeMemoryStatus | None = None
        self._written: NodeMemoryStatus | None = None
        self._written_at = 0.0

    def publish(self, status: NodeMemoryStatus) -> None:
        """Take a status to write; returns at once."""
        self._latest = status
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Write until told to stop."""
        failures = 0
        while not stop.is_set():
            self._wake.wait(timeout=1)
            self._wake.clear()
            try:
                self._write_if_due()
                failures = 0
            except (ApiError, httpx2.HTTPError, OSError, ValueError) as err:
                level = logging.DEBUG if failures else logging.WARNING
                log.log(level, "status not written", extra={"error": str(err)})
                stop.wait(_backoff(failures))
                failures += 1

    def _write_if_due(self) -> None:
        status = self._latest
        beat = time.monotonic() - self._written_at >= HEARTBEAT_S and self._alive()
        if status is None or (status == self._written and not beat):
            return
        now = datetime.now(UTC).replace(microsecond=0)
        body = {"status": to_builtins(msgspec.structs.replace(status, heartbeat_time=now))}
        try:
            self._patch(body)
        except ApiError as err:
            if err.status.code != 404:
                raise
            self._create()
            self._patch(body)
        self._written, self._written_at = status, time.monotonic()

    def _patch(self, body: dict[str, Any]) -> None:
        self._client.patch(_NODE_MEMORIES.Status, self._name, body, patch_type=PatchType.MERGE)

    def _create(self) -> None:
        # No owner: the object has to outlive a node that is deleted and registers again.
        self._client.create(_NODE_MEMORIES.from_dict({"metadata": {"name": self._name}}))
