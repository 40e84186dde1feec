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


def namespace_of_events(about: Placement | Unreadable) -> str:
    """Return where Events about a placement are: those of the cluster's in namespace default.

    Source: k8s.io/api ``core/v1``, validation of Event: an object without a namespace has its
    Events there.
    """
    return about.namespace or "default"


def make_event(about: Placement | Unreadable, what: Transition, now: datetime) -> dict[str, Any]:
    """Return the Event to POST into `namespace_of_events`."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "generateName": _prefix(about.name),
            "namespace": namespace_of_events(about),
        },
        "eventTime": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": "MemoryPlacement" if about.namespace else "ClusterMemoryPlacement",
            **({"namespace": about.namespace} if about.namespace else {}),
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
