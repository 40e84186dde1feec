# SPDX-License-Identifier: Apache-2.0
"""Events (core/v1) about a placement."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from memplace.api.v1alpha1 import API_VERSION, Placement

from memplace_operator.objects import Unreadable
from memplace_operator.reconcile import Transition

COMPONENT = "memplace-operator"


def make_event(about: Placement | Unreadable, what: Transition, now: datetime) -> dict[str, Any]:
    """Return the Event to POST into the placement's namespace."""
    moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{about.name[:200]}.", "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "MemoryPlacement",
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        },
        "type": "Warning" if what.is_warning else "Normal",
        "reason": what.reason,
        "message": what.message[:1024],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
