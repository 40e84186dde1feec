# SPDX-License-Identifier: Apache-2.0
"""Whether the agent of a node is alive: what it promises, and what others conclude."""

from __future__ import annotations

from datetime import datetime, timedelta

from memplace.api.v1alpha1 import NodeMemory

# An agent writes its heartbeat this often; ``crds/nodememories.yaml`` says so.
HEARTBEAT_S = 30.0

# Three heartbeats missed in a row are silence.
STALE_AFTER = 3 * timedelta(seconds=HEARTBEAT_S)


def is_silent(node: NodeMemory, now: datetime) -> bool:
    """Return whether the agent reported once, but not lately.

    Args:
        node: Its report; one without a heartbeat is new, not silent.
        now: An aware time.
    """
    heartbeat = node.status.heartbeat_time
    return heartbeat is not None and now - heartbeat > STALE_AFTER


def is_alive(node: NodeMemory, now: datetime) -> bool:
    """Return whether the agent reported lately; `now` is an aware time."""
    return node.status.heartbeat_time is not None and not is_silent(node, now)
