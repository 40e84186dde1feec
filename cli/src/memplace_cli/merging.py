# SPDX-License-Identifier: Apache-2.0
"""What an object is after ``kubectl apply``, and what changes by it. Pure.

Apply changes what the manifest names, and takes away what an earlier apply named and this one
does not. What somebody else wrote, such as spec.paused of `kubectl memplace pause`, stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

# Where kubectl writes down what it applied.
_LAST = "kubectl.kubernetes.io/last-applied-configuration"

_Json = Mapping[str, Any]


def applied(live: _Json, manifest: _Json) -> dict[str, Any]:
    """Return the spec of a live object after a manifest was applied.

    Lists are taken as a whole, as apply does with objects of CRDs.

    Source: k8s.io/apimachinery ``pkg/util/jsonmergepatch``.
    """
    return _merged(live.get("spec") or {}, manifest.get("spec") or {}, _last(live))


def _last(live: _Json) -> _Json:
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(_LAST)
    try:
        found = json.loads(text or "{}").get("spec")
    except (ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _merged(live: _Json, wanted: _Json, last: _Json) -> dict[str, Any]:
    found = {key: value for key, value in live.items() if key in wanted or key not in last}
    for key, value in wanted.items():
        below = [each.get(key) for each in (live, last)]
        if isinstance(value, dict) and isinstance(below[0], dict):
            before = below[1] if isinstance(below[1], dict) else {}
            found[key] = _merged(below[0], value, before)
        else:
            found[key] = value
    return found


def kept(live: _Json, manifest: _Json) -> tuple[str, ...]:
    """Return the fields of the spec, with values, that stay though the manifest has them not."""
    after, named = applied(live, manifest), manifest.get("spec") or {}
    return tuple(f"spec.{key}: {_short(after[key])}" for key in sorted(after.keys() - named.keys()))


def changes(before: _Json, after: _Json, path: str = "spec") -> tuple[str, ...]:
    """Return what differs of two specs, a line for each field: ``spec.priority: 0 -> 10``."""
    return tuple(_changes(before, after, path))


def _changes(before: _Json, after: _Json, path: str) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        where = f"{path}.{key}"
        old, new = (_by_name(each.get(key)) for each in (before, after))
        if isinstance(old, _Named) and isinstance(new, _Named):
            for name in dict.fromkeys((*old, *new)):
                yield from _difference(old.get(name), new.get(name), f"{where}[{name}]")
            if [*old] != [*new] and sorted(old) == sorted(new):
                yield f"{where}: in another order"
        else:
            yield from _difference(before.get(key), after.get(key), where)


def _difference(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _changes(old, new, where)
    elif old != new:
        yield f"{where}: {_short(old)} -> {_short(new)}"


class _Named(dict[str, Any]):
    """A list of objects that have names, such as rules."""


def _by_name(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return value
    found = _Named()
    for each in value:
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or name in found:
            return value
        found[name] = each
    return found


def merge_patch(before: _Json, after: _Json) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7386) that makes the one of the other."""
    found: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if below := merge_patch(old, value):
                found[key] = below
        elif key not in before or old != value:
            found[key] = value
    return found


def _short(value: Any) -> str:
    if value is None:
        return "(not set)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
