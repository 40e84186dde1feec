# SPDX-License-Identifier: Apache-2.0
"""Events (events.k8s.io/v1) about a placement; `kubectl get events` shows them as any."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from typing import Any

from memplace.api.v1alpha1 import API_VERSION, GROUP, Placement

from memplace_operator.objects import Unreadable
from memplace_operator.reconcile import Transition

COMPONENT = "memplace-operator"
CONTROLLER = f"{GROUP}/operator"
EVENTS = "/apis/events.k8s.io/v1"
# Of bytes, and the API server refuses what is longer.
NOTE_MAX = 1024
INSTANCE_MAX = 128


def make_event(about: Placement | Unreadable, what: Transition, now: datetime) -> dict[str, Any]:
    """Return the Event to POST into the placement's namespace."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": _prefix(about.name), "namespace": about.namespace},
        "eventTime": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": "MemoryPlacement",
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        },
        "type": "Warning" if what.is_warning else "Normal",
        "action": "Judge",
        "reason": what.reason,
        "note": what.message.encode()[:NOTE_MAX].decode(errors="ignore"),
        "reportingController": CONTROLLER,
        "reportingInstance": _instance(),
    }


def _prefix(name: str) -> str:
    return f"{name[:200].rstrip('.-')}-"


def _instance() -> str:
    return (os.environ.get("POD_NAME") or socket.gethostname() or COMPONENT)[:INSTANCE_MAX]
