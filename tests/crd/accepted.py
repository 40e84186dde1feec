# SPDX-License-Identifier: Apache-2.0
"""Specs that the API server is to accept; between them they have each field."""

from __future__ import annotations

from tests.crd.manifests import Json, entry, one, policy, rule

ACCEPTED: dict[str, Json] = {
    "smallest": one(),
    "sizes as numbers": entry(type="Heap", minSize=0, maxSize=67108864)
    | {"migration": {"maxBandwidth": 1 << 20}},
    "a number below a text": entry(type="Heap", minSize=67108864, maxSize="64Mi"),
    "everything": {
        "selector": {
            "matchLabels": {"app": "redis", "example.com/part": ""},
            "matchExpressions": [
                {"key": "a.b/c", "operator": "NotIn", "values": ["x", ""]},
                {"key": "d", "operator": "DoesNotExist", "values": []},
            ],
        },
        "containers": ["redis", "sidecar-1"],
        "priority": -1000,
        "paused": True,
        "mode": "DryRun",
        "onDelete": "RestorePages",
        "nodeSelector": {"example.com/pool": "cxl", "zone": ""},
        "rollout": {
            "maxNodes": "100%",
            "pauseSeconds": 0,
            "holdOn": ["AgentNotReporting", "Failed", "MemoryPressure"],
            "ignoreHoldOf": 7,
        },
        "onUnsupported": "Observe",
        "rules": [
            rule(
                regions=[
                    {"type": "Anonymous", "name": "a*", "minSize": "1", "maxSize": "1.5Gi"},
                    {"type": "Shared", "name": "[x", "path": "/dev/shm/*"},
                    {"type": "File", "path": "*.so", "minSize": "1Ki", "maxSize": "1024"},
                ],
                exclude=[
                    {"type": "HugeTLB", "minSize": "0", "maxSize": "1Gi", "path": "/mnt/*"},
                    {"type": "Anonymous", "name": "b", "process": "c", "permissions": "---"},
                ],
                existingPages="Leave",
                override=True,
            ),
            rule(
                name="code",
                regions=[
                    {"type": "Anonymous", "permissions": "r-x", "process": "*j*a*v*a*1*2*3*"},
                    {"type": "Heap", "permissions": "rw-"},
                ],
                override=False,
            ),
            rule(name="second", exclude=[], policy=policy("Preferred", "dram")),
            rule(name="third", policy=policy("Default"), existingPages="Leave"),
            rule(name="fourth", policy={"mode": "Local", "tiers": []}),
        ],
        "migration": {"maxBandwidth": "1Ti"},
    },
    "empty migration": one() | {"migration": {}},
    "slowest migration": one() | {"migration": {"maxBandwidth": "1048576"}},
    "16 rules": {"selector": {}, "rules": [rule(name=f"r{i}") for i in range(16)]},
    "largest size": entry(type="Heap", minSize="1", maxSize="1152921504606846975"),
    "fractions of bytes": entry(type="Heap", minSize="0.4", maxSize="0.500000001"),
}
