# SPDX-License-Identifier: Apache-2.0
"""kopf's handlers: they take what is seen into the cache, and nothing else.

Only ``on.event``: it puts neither finalizers nor annotations on anything.
"""

from __future__ import annotations

from typing import Any

import kopf

from memplace_operator.cache import Cache
from memplace_operator.kinds import Kind
from memplace_operator.kubeapi import login


def make_registry(cache: Cache, settings: kopf.OperatorSettings) -> kopf.OperatorRegistry:
    """Return handlers that keep the cache fresh."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return login(settings)

    for kind in Kind:
        _watch(kind, cache, registry)
    return registry


def _watch(kind: Kind, cache: Cache, registry: kopf.OperatorRegistry) -> None:
    version, plural = kind.value

    @kopf.on.event(version, plural, id=f"see-{plural}", registry=registry)
    async def see(event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] == "DELETED":
            cache.drop(kind, event["object"]["metadata"]["uid"])
        else:
            cache.put(kind, event["object"])
