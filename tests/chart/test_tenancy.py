# SPDX-License-Identifier: Apache-2.0
"""Who may edit a namespace takes what an admin granted, on a real API server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from memplace_lab.product.apiserver import ApiServer, Ran

from tests.support.release.installing import Chart, create, install, uninstall

Json = dict[str, Any]
TENANT = "tenant"
# Policies act some time after they are made, and grants after they are given.
SETTLE_S = 30


def placement(mode: str, *tiers: str, name: str = "mp", rules: int = 1) -> Json:
    policy = {"mode": mode, "tiers": list(tiers)}
    each = {"regions": [{"type": "Heap"}], "policy": policy}
    return {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "MemoryPlacement",
        "metadata": {"name": name, "namespace": TENANT},
        "spec": {
            "selector": {"matchLabels": {"app": "any"}},
            "rules": [{"name": f"r{number}", **each} for number in range(rules)],
        },
    }


class Tenant:
    """Who has the cluster's edit role in one namespace."""

    def __init__(self, cluster: ApiServer) -> None:
        self.cluster = cluster
        where = ["--namespace", TENANT]
        made = [
            ["create", "namespace", TENANT],
            ["create", "serviceaccount", "editor", *where],
            # What aggregation gives to edit where the controllers of a cluster run.
            ["create", "rolebinding", "edits", "--clusterrole=memplace-edit", *where, *self._me],
            ["create", "rolebinding", "reads", "--clusterrole=memplace-view", *where, *self._me],
        ]
        for command in made:
            done = cluster.kubectl(*command)
            assert done.returncode == 0, done.stderr
        token = cluster.kubectl("create", "token", "editor", *where)
        self.token = token.stdout.strip()

    @property
    def _me(self) -> list[str]:
        return [f"--serviceaccount={TENANT}:editor"]

    def tries(self, found: Json) -> Ran:
        """Have the tenant create an object, for a try only."""
        text = json.dumps(found)
        how = ["create", "--dry-run=server", "--validate=false", "--filename=-"]
        return self.cluster.kubectl(*how, stdin=text, token=self.token)

    def granted(self, role: str) -> None:
        name = role.partition("/")[2]
        where = ["--namespace", TENANT]
        done = self.cluster.kubectl("create", "rolebinding", name, f"--{role.replace('/', '=')}",
                                    *where, *self._me)  # fmt: skip
        assert done.returncode == 0, done.stderr

    def is_refused(self, found: Json, says: str) -> None:
        deadline = time.monotonic() + SETTLE_S
        while says not in (done := self.tries(found)).stderr:
            assert time.monotonic() < deadline, done.stdout + done.stderr
            time.sleep(0.5)

    def may(self, found: Json) -> None:
        deadline = time.monotonic() + SETTLE_S
        while (done := self.tries(found)).returncode != 0:
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.5)


@pytest.fixture(scope="module", params=["Anybody", "Granted"])
def tiers(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tenant(prepared: ApiServer, chart: Chart, tiers: str) -> Iterator[Tenant]:
    install(prepared, chart, "--set", f"tenancy.tiers={tiers}")
    try:
        yield Tenant(prepared)
    finally:
        objects = ["memoryplacement,role,rolebinding,serviceaccount,resourcequota", "--all"]
        prepared.kubectl("delete", *objects, "--namespace", TENANT)
        # Nobody ends a namespace here, but who takes it over.
        prepared.kubectl("delete", "namespace", TENANT, "--wait=false")
        prepared.call("PUT", f"/api/v1/namespaces/{TENANT}/finalize", {
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TENANT}, "spec": {},
        })  # fmt: skip
        prepared.kubectl("delete", "memorytier", "gold", "--ignore-not-found")
        uninstall(prepared)


def test_bind_takes_a_grant_and_advice_does_not(tenant: Tenant, tiers: str) -> None:
    tenant.is_refused(placement("Bind", "dram"), "write PreferredMany, or ask for the verb bind")
    assert tenant.tries(placement("PreferredMany", "dram")).returncode == 0
    # What an admin wrote may be labelled, and not widened.
    assert create(tenant.cluster, placement("Bind", "dram", name="admins")).returncode == 0
    path = f"/apis/memplace.dev/v1alpha1/namespaces/{TENANT}/memoryplacements/admins"
    label = tenant.cluster.call(
        "PATCH", path, {"metadata": {"labels": {"my": "own"}}}, token=tenant.token
    )
    assert label.ok, label.message
    wider = tenant.cluster.call("PATCH", path, {"spec": {"selector": None}}, token=tenant.token)
    assert not wider.ok
    other = {"spec": {"selector": {"matchLabels": {"app": "more"}}}}
    wider = tenant.cluster.call("PATCH", path, other, token=tenant.token)
    assert wider.status == 403 and "verb bind" in wider.message
    tenant.granted("clusterrole/memplace-bind")
    tenant.may(placement("Bind", "dram"))


def test_tiers_take_a_grant_where_an_admin_wants_it(tenant: Tenant, tiers: str) -> None:
    gold = {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "MemoryTier",
        "metadata": {"name": "gold"},
        "spec": {"numaNodes": [3]},
    }
    assert create(tenant.cluster, gold).returncode == 0
    mine = placement("PreferredMany", "dram", "cxl")
    special = placement("PreferredMany", "gold")
    if tiers == "Anybody":
        tenant.is_refused(placement("Bind", "dram"), "verb bind")
        assert tenant.tries(mine).returncode == tenant.tries(special).returncode == 0
        return
    tenant.is_refused(mine, "tier cxl is granted by an admin")
    tenant.is_refused(special, "verb use on memorytiers/gold in this namespace")
    assert tenant.tries(placement("PreferredMany", "dram")).returncode == 0
    rule = {
        "apiGroups": ["memplace.dev"],
        "resources": ["memorytiers"],
        "resourceNames": ["cxl"],
        "verbs": ["use"],
    }
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "cxl", "namespace": TENANT},
        "rules": [rule],
    }
    assert create(tenant.cluster, role).returncode == 0
    tenant.granted("role/cxl")
    tenant.may(mine)
    for other in ("hbm", "gold"):
        done = tenant.tries(placement("PreferredMany", other))
        assert f"tier {other} is granted" in done.stderr
    tenant.granted("clusterrole/memplace-use-tiers")
    tenant.may(special)
    largest = placement("PreferredMany", *(f"t{n}" for n in range(15)), "gold", rules=16)
    assert tenant.tries(largest).returncode == 0, tenant.tries(largest).stderr


def test_who_edits_a_namespace_makes_no_placement_of_the_cluster(tenant: Tenant) -> None:
    mine = placement("PreferredMany", "dram")
    of_all = mine | {
        "kind": "ClusterMemoryPlacement",
        "metadata": {"name": "mp"},
        "spec": mine["spec"] | {"namespaceSelector": {}},
    }
    assert tenant.tries(mine).returncode == 0
    done = tenant.tries(of_all)
    assert 'cannot create resource "clustermemoryplacements"' in done.stderr
    # An admin's may Bind: whom the policies ask is who has a namespace only.
    bind = of_all | {"spec": placement("Bind", "dram")["spec"] | {"namespaceSelector": {}}}
    assert create(tenant.cluster, bind).returncode == 0
    assert tenant.cluster.kubectl("delete", "cmp", "mp").returncode == 0


def test_a_quota_limits_how_many_placements_a_namespace_has(tenant: Tenant) -> None:
    """As docs/security.md says to make one."""
    what, where = "count/memoryplacements.memplace.dev", ["--namespace", TENANT]
    made = tenant.cluster.kubectl("create", "quota", "placements", f"--hard={what}=1", *where)
    assert made.returncode == 0, made.stderr
    # The controllers of a cluster count what is there already; here are none.
    status = json.dumps({"status": {"hard": {what: "1"}, "used": {what: "0"}}})
    how = ["--subresource=status", "--type=merge", f"--patch={status}"]
    done = tenant.cluster.kubectl("patch", "quota", "placements", *how, *where)
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + SETTLE_S
    while _used(tenant, what) != "1":
        assert time.monotonic() < deadline
        tenant.cluster.kubectl("delete", "mp", "first", "--ignore-not-found", *where)
        assert (
            create(tenant.cluster, placement("PreferredMany", "dram", name="first")).returncode == 0
        )
        time.sleep(0.2)
    tenant.is_refused(placement("PreferredMany", "dram"), "exceeded quota: placements")


def _used(tenant: Tenant, what: str) -> str:
    asked = tenant.cluster.kubectl("get", "quota", "placements", "-o", "json", "-n", TENANT)
    used: str = json.loads(asked.stdout)["status"]["used"][what]
    return used
