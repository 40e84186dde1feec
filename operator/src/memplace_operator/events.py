# SPDX-License-Identifier: Apache-2.0
"""Events (events.k8s.io/v1) about a placement; `kubectl get events` shows them as any.

One that is like an earlier one becomes part of its series, as of any controller: a placement
that goes up and down all day has few events, which say how often and when last. client-go writes
the second one and then one more each half hour. Ours are transitions, of which each comes with a
write of the status anyway: each is written, so that the count is never old.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
# A series ends when so long nothing was added to it, as with client-go.
SERIES_ENDS = timedelta(minutes=6)


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
        "eventTime": _micro_time(now),
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


@dataclass(frozen=True, slots=True)
class Told:
    """An event that is at the API server: its name, how often it was told, and when last."""

    name: str
    count: int
    at: datetime

    def patch(self) -> dict[str, Any]:
        """Return the merge patch of an event that was told more than once."""
        return {"series": {"count": self.count, "lastObservedTime": _micro_time(self.at)}}


class Series:
    """What was told lately. It is for one thread at a time.

    Two events are alike if they differ in time and note only: a note has figures, which change
    each time. The first note stays, since the API server lets nobody change it.
    """

    def __init__(self) -> None:
        # From the longest ago on.
        self._told: dict[tuple[str, ...], Told] = {}

    def repeated(self, event: Mapping[str, Any]) -> Told | None:
        """Return what an earlier event becomes by this one; None: there is none like it."""
        at = _time_of(event)
        self._forget(at - SERIES_ENDS)
        told = self._told.get(_key(event))
        return told and Told(told.name, told.count + 1, at)

    def was_told(self, event: Mapping[str, Any], told: Told) -> None:
        """Take what an event is at the API server now."""
        self._told.pop(_key(event), None)
        self._told[_key(event)] = told

    def _forget(self, before: datetime) -> None:
        while self._told:
            key, told = next(iter(self._told.items()))
            if told.at >= before:
                return
            del self._told[key]


def first_told(event: Mapping[str, Any], name: str) -> Told:
    """Return what an event is that the API server gave a name."""
    return Told(name, 1, _time_of(event))


def _key(event: Mapping[str, Any]) -> tuple[str, ...]:
    return event["regarding"]["uid"], event["type"], event["action"], event["reason"]


def _time_of(event: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(event["eventTime"])


def _micro_time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _prefix(name: str) -> str:
    return f"{name[:200].rstrip('.-')}-"


def _instance() -> str:
    return (os.environ.get("POD_NAME") or socket.gethostname() or COMPONENT)[:INSTANCE_MAX]
