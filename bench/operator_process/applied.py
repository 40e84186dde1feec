# SPDX-License-Identifier: Apache-2.0
"""A placement as `kubectl apply` leaves it, with the names of its fields and its last form."""

from __future__ import annotations

import json

from objects import NOW, Object, uid_of


def placement(ns: str, name: str) -> Object:
    """Return a MemoryPlacement without a status."""
    policy = {"mode": "PreferredMany", "tiers": ["cxl"]}
    large = {"type": "Anonymous", "minSize": "16Mi"}
    rules = [
        {
            "name": "large",
            "regions": [large],
            "exclude": [{"type": "Anonymous", "name": "io-*"}],
            "policy": policy,
            "existingPages": "Move",
        },
        {"name": "heap", "regions": [{"type": "Heap"}], "policy": policy},
    ]
    spec = {"selector": {"matchLabels": {"app": name}}, "containers": ["app"], "rules": rules}
    kind = {"apiVersion": "memplace.dev/v1alpha1", "kind": "MemoryPlacement"}
    meta = {"annotations": {}, "name": name, "namespace": ns}
    applied = json.dumps({**kind, "metadata": meta, "spec": spec}, separators=(",", ":")) + "\n"
    return {
        **kind,
        "metadata": {
            "name": name,
            "namespace": ns,
            "uid": uid_of("mp", ns, name),
            "creationTimestamp": NOW,
            "generation": 1,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied},
            "managedFields": [_applied()],
        },
        "spec": spec,
    }


def _applied() -> Object:
    # As `kubectl apply` leaves it.
    rule: Object = {
        ".": {},
        "f:name": {},
        "f:policy": {".": {}, "f:mode": {}, "f:tiers": {}},
        "f:regions": {},
    }
    large = {**rule, "f:exclude": {}, "f:existingPages": {}}
    rules = {".": {}, 'k:{"name":"heap"}': rule, 'k:{"name":"large"}': large}
    spec = {
        ".": {},
        "f:containers": {".": {}, 'v:"app"': {}},
        "f:rules": rules,
        "f:selector": {".": {}, "f:matchLabels": {".": {}, "f:app": {}}},
    }
    last: Object = {".": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}}
    return {
        "manager": "kubectl-client-side-apply",
        "operation": "Update",
        "apiVersion": "memplace.dev/v1alpha1",
        "time": NOW,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:annotations": last}, "f:spec": spec},
    }
