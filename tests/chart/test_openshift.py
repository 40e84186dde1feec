# SPDX-License-Identifier: Apache-2.0
"""On OpenShift each pod is allowed what it asks for, and the agents' no more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.test_render import pod_spec, with_pods

Json = dict[str, Any]
SWITCH = "openshift.securityContextConstraints=true"


def constraints(objects: list[Json]) -> list[Json]:
    return [o for o in objects if o["kind"] == "SecurityContextConstraints"]


def test_elsewhere_there_is_nothing_of_it(objects: list[Json]) -> None:
    assert "openshift" not in str(objects)


@pytest.mark.parametrize("seccomp", ["Localhost", "Unconfined"])
def test_the_agents_are_allowed_what_they_ask_for_and_no_more(chart: Any, seccomp: str) -> None:
    found = chart.render(SWITCH, f'agent.seccomp.type="{seccomp}"', "agent.nri.enabled=true")
    (allowed,) = constraints(found)
    (spec,) = [pod_spec(o) for o in found if o["kind"] == "DaemonSet"]
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    contexts = [container["securityContext"] for container in containers]
    added = {c for context in contexts for c in context["capabilities"].get("add", ())}
    assert set(allowed["allowedCapabilities"]) == added
    assert allowed["allowHostPID"] is spec["hostPID"] is True
    assert allowed["allowHostNetwork"] is spec["hostNetwork"] is False
    for name in ("allowPrivilegedContainer", "allowPrivilegeEscalation", "allowHostIPC"):
        assert allowed[name] is False
    assert allowed["readOnlyRootFilesystem"] is True
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= set(allowed["volumes"])
    profiles = {
        f"localhost/{p['localhostProfile']}" if p["type"] == "Localhost" else words[p["type"]]
        for p in (context["seccompProfile"] for context in contexts)
        for words in ({"RuntimeDefault": "runtime/default", "Unconfined": "unconfined"},)
    }
    assert set(allowed["seccompProfiles"]) == profiles
    assert not allowed["users"] and not allowed["groups"]


def test_each_account_may_use_the_one_for_its_pods(chart: Any) -> None:
    found = chart.render(SWITCH, 'agent.serviceAccount.name="mine"')
    roles = {
        o["metadata"]["name"]: o["rules"][0]
        for o in found
        if o["kind"] == "Role" and "openshift" in str(o)
    }
    may = {
        o["subjects"][0]["name"]: roles[o["roleRef"]["name"]]["resourceNames"]
        for o in found
        if o["kind"] == "RoleBinding" and o["roleRef"]["name"] in roles
    }
    accounts = {pod_spec(o)["serviceAccountName"] for o in with_pods(found)}
    assert may == {name: ["nonroot-v2"] for name in accounts - {"mine"}} | {
        "mine": [constraints(found)[0]["metadata"]["name"]]
    }
    assert all(rule["verbs"] == ["use"] for rule in roles.values())


def test_who_makes_the_roles_makes_these_as_well(chart: Any) -> None:
    found = chart.render(SWITCH, "rbac.create=false")
    assert len(constraints(found)) == 1
    assert not [o for o in found if o["kind"] == "Role"]
