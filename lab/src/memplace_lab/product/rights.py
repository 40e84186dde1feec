# SPDX-License-Identifier: Apache-2.0
"""The rights of users in tests: exactly what the chart grants its accounts."""

from __future__ import annotations

# Exactly what the operator may do; a rule it lacks makes these tests fail.
RULES = [
    {
        "apiGroups": ["memplace.dev"],
        "resources": ["memoryplacements", "clustermemoryplacements", "memorytiers"],
        "verbs": ["list", "watch"],
    },
    {
        "apiGroups": ["memplace.dev"],
        "resources": ["nodememories"],
        "verbs": ["list", "watch", "delete"],
    },
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": ["memplace.dev"],
        "resources": [
            "memoryplacements/status",
            "clustermemoryplacements/status",
            "memorytiers/status",
        ],
        "verbs": ["patch"],
    },
    {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["list", "watch"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
RETIRE_RULES = [
    {
        "apiGroups": ["memplace.dev"],
        "resources": ["memoryplacements", "clustermemoryplacements"],
        "verbs": ["list", "delete"],
    },
    {
        "apiGroups": ["memplace.dev"],
        "resources": ["nodememories"],
        "verbs": ["list", "patch", "deletecollection"],
    },
    {"apiGroups": ["memplace.dev"], "resources": ["memorytiers"], "verbs": ["deletecollection"]},
    {"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": ["get", "delete"]},
    {
        "apiGroups": ["apiextensions.k8s.io"],
        "resources": ["customresourcedefinitions"],
        "verbs": ["delete"],
    },
]
SELFTEST_RULES = [{"apiGroups": ["memplace.dev"], "resources": ["nodememories"], "verbs": ["list"]}]
LEASE_RULES = [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list"]}]
RESUME_RULES = [
    {"apiGroups": ["memplace.dev"], "resources": ["nodememories"], "verbs": ["list", "patch"]}
]
ELECTION_RULES = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["memplace-operator"],
        "verbs": ["get", "update"],
    },
]
USERS = {
    "operator": RULES,
    "retire": RETIRE_RULES,
    "resume": RESUME_RULES,
    "selftest": SELFTEST_RULES,
}
