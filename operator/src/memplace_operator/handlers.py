# SPDX-License-Identifier: Apache-2.0
"""kopf follows the MemoryTiers: few objects, made by people, of a kind of our own.

Only ``on.event``: it puts neither finalizers nor annotations on anything. What comes in
streams (reports, pods, placements with their statuses) does not go through kopf: see
docs/adr/0024.
"""

from __future__ import annotations

from typing import Any

import kopf

from memplace_operator.feeds import Feeds
from memplace_operator.kinds import Kind
from memplace_operator.kubeapi import login


def make_registry(feeds: Feeds, settings: kopf.OperatorSettings) -> kopf.OperatorRegistry:
    """Return handlers that keep the tiers fresh."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return login(settings)

    version, plural = Kind.TIER.value

    @kopf.on.event(version, plural, id=f"see-{plural}", registry=registry)
    async def see(event: kopf.RawEvent, **_: Any) -> None:
        meta = event["object"]["metadata"]
        feeds.tier(event["type"], meta["uid"], meta["name"])

    return registry
