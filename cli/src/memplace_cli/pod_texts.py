# SPDX-License-Identifier: Apache-2.0
"""What a pod says of its containers beside who it is: why they wait, and their limits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from memplace.errors import ParseError
from memplace.pods import parse_pod
from memplace.quantity import parse_quantity

from memplace_cli.planned import PodSeen

_Json = Mapping[str, Any]
_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def waiting(obj: _Json) -> dict[str, str]:
    """Return of the containers that do not run what the kubelet says: ``ImagePullBackOff``."""
    found = {}
    for name, state in _states(obj):
        for word in ("waiting", "terminated"):
            if word in state:
                said = (state[word].get("reason"), state[word].get("message"))
                found[name] = ": ".join(filter(None, said)) or word
    return found


def pod_seen(obj: _Json) -> PodSeen:
    """Parse a pod, with the containers that have ended well, and memory limits.

    Raises:
        ValidationError: It is not a pod.
    """
    ended = {
        name
        for name, state in _states(obj)
        if "terminated" in state and state["terminated"].get("exitCode") == 0
    }
    return PodSeen(state=parse_pod(obj), done=frozenset(ended), limits=dict(_limits(obj)))


def _states(obj: _Json) -> Iterator[tuple[str, _Json]]:
    status = obj.get("status") or {}
    for key in _STATUSES:
        yield from ((each["name"], each.get("state") or {}) for each in status.get(key) or ())


def _limits(obj: _Json) -> Iterator[tuple[str, int]]:
    spec = obj.get("spec") or {}
    for key in ("initContainers", "containers"):
        for each in spec.get(key) or ():
            text = ((each.get("resources") or {}).get("limits") or {}).get("memory")
            try:
                size = parse_quantity(str(text)) if text else 0
            except ParseError:
                # Of a form that no person writes: as if there were none.
                continue
            if size:
                yield each["name"], size
