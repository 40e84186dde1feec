# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around the operator stays what it is about."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
from memplace_lab.product.apiserver import CRDS, ApiServer
from memplace_lab.product.operating import Operator

from tests.support.cluster import Cluster, eventually, operating, result
from tests.support.crds import load_crds

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
FAILED = 'memplace_operator_status_writes_total{result="error"}'
WRITTEN = 'memplace_operator_status_writes_total{result="success"}'


def _deny(name: str, cluster: Cluster) -> None:
    """Refuse the status of one placement, as somebody's policy may."""
    rule = {
        "apiGroups": ["memplace.dev"],
        "apiVersions": ["*"],
        "operations": ["UPDATE"],
        "resources": ["memoryplacements/status"],
    }
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": f"object.metadata.name != '{name}'", "message": "no"}],
    }
    binding = {"policyName": f"deny-{name}", "validationActions": ["Deny"]}
    for kind, what in (
        ("validatingadmissionpolicies", spec),
        ("validatingadmissionpolicybindings", binding),
    ):
        body = {"metadata": {"name": f"deny-{name}"}, "spec": what}
        assert cluster.api.call("POST", f"{ADMISSION}/{kind}", body).ok
        cluster.made(f"{ADMISSION}/{kind}/deny-{name}")


def test_a_refused_status_is_that_placements_trouble(cluster: Cluster, operator: Operator) -> None:
    _deny("refused", cluster)
    time.sleep(2)  # a policy takes a moment to hold
    cluster.apply("refused")
    cluster.apply("taken")
    eventually(lambda: cluster.condition("taken")[1] == "NoPods")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert operator.is_ready()
        time.sleep(1)
    assert cluster.condition("refused") == ("", "", "")
    said = [line for line in operator.log() if "/refused" in line["message"]]
    assert [line["severity"] for line in said] == ["error"]
    assert 2 <= counted(operator, FAILED) <= 6, "neither given up nor tried all the time"


def test_a_crd_that_goes_and_comes_ends_nothing(cluster: Cluster, operator: Operator) -> None:
    process = operator.process.pid
    for crd in load_crds():
        if crd["spec"]["names"]["plural"] in ("memorytiers", "nodememories"):
            path = f"{CRDS}/{crd['metadata']['name']}"
            assert cluster.api.call("DELETE", path).ok
            eventually(partial(_is_gone, cluster, path))
            time.sleep(3)
            assert cluster.api.call("POST", CRDS, crd).ok
            cluster.api._wait_served(crd)
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed", timeout_s=90)
    assert operator.process.poll() is None
    assert operator.process.pid == process


def _is_gone(cluster: Cluster, path: str) -> bool:
    return cluster.api.call("GET", path).status == 404


# A Lease that nobody gives up runs out after 40 s, and programs start slowly on a busy machine.
@pytest.mark.timeout(600)
def test_of_two_operators_one_writes_and_the_other_takes_over(
    cluster: Cluster, operator: Operator, api: ApiServer, tmp_path: Path
) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    with operating(api, tmp_path) as second:
        eventually(lambda: leads(operator) and not leads(second))
        first = holder(api)
        cluster.report(result(placement, pod, state="Moving"))
        cluster.wait("mp", "Ready", "False", "Moving")
        assert counted(second, WRITTEN) == 0
        operator.stop()
        # It was given up, and had not to run out.
        assert first and holder(api) != first
        eventually(lambda: leads(second), timeout_s=60)
        cluster.report(result(placement, pod))
        cluster.wait("mp", "Ready", "True", "Placed")
        eventually(lambda: counted(second, WRITTEN) > 0)
        operator.start()
        eventually(operator.is_ready, timeout_s=120)
        eventually(lambda: leads(second) and not leads(operator))
        second.process.kill()
        second.process.wait()
        # Nobody gave it up: it has to run out.
        cluster.report(result(placement, pod, state="Moving"))
        cluster.wait("mp", "Ready", "False", "Moving", timeout_s=120)
        eventually(lambda: leads(operator))


def holder(api: ApiServer) -> str:
    """Return who has the operators' Lease; empty when it was given up."""
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/memplace-operator"
    found: str = api.call("GET", path).body["spec"].get("holderIdentity", "")
    return found


def leads(operator: Operator) -> bool:
    return "memplace_operator_leader 1.0" in operator.get("/metrics")[1]


def counted(operator: Operator, name: str) -> float:
    lines = operator.get("/metrics")[1].splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith(name))
