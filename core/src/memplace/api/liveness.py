# SPDX-License-Identifier: Apache-2.0
"""Whether the agent of a node is alive: what it promises, and what others conclude."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from memplace.api.v1alpha1 import NodeMemory
from memplace.structs import prepared

# An agent renews its Lease this often; agents before Leases wrote heartbeatTime instead.
HEARTBEAT_S = 30.0

# In memplace's own namespace, each with the name of its node.
LEASES = "/apis/coordination.k8s.io/v1"
LEASE_LABELS = {
    "app.kubernetes.io/name": "memplace",
    "app.kubernetes.io/component": "agent",
    "app.kubernetes.io/part-of": "memplace",
}
LEASE_SELECTOR = ",".join(f"{key}={value}" for key, value in LEASE_LABELS.items())

# Of the operator that writes: its name, and for how long one counts that is not renewed.
OPERATOR_LEASE = "memplace-operator"
OPERATOR_LEASE_S = 40.0

# Three heartbeats missed in a row are silence.
STALE_AFTER = 3 * timedelta(seconds=HEARTBEAT_S)
# Who seems dead at first has this long to show that only a clock is wrong.
DOUBT_S = 1.2 * HEARTBEAT_S


def renewals(leases: Iterable[Mapping[str, Any]]) -> dict[str, datetime]:
    """Return per node when its agent renewed its Lease; what is no such Lease is left out.

    Args:
        leases: As the API server returns them.
    """
    found: dict[str, datetime] = {}
    for lease in leases:
        try:
            parsed = msgspec.convert(lease, _Lease)
        except msgspec.ValidationError:
            continue
        if parsed.spec.renew_time is not None:
            found[parsed.metadata.name] = parsed.spec.renew_time
    return found


def with_renewal(node: NodeMemory, renewed: Mapping[str, datetime]) -> NodeMemory:
    """Return the node as last heard of: by its report, or by its Lease when that is newer.

    Args:
        node: Its report.
        renewed: When which agent renewed its Lease.
    """
    lease, report = renewed.get(node.name), node.status.heartbeat_time
    if lease is None or (report is not None and report >= lease):
        return node
    status = msgspec.structs.replace(node.status, heartbeat_time=lease)
    return msgspec.structs.replace(node, status=status)


class _Named(msgspec.Struct):
    name: str


class _LeaseSpec(msgspec.Struct, rename="camel"):
    renew_time: datetime | None = None


@prepared
class _Lease(msgspec.Struct):
    metadata: _Named
    spec: _LeaseSpec
