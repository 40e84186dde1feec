# SPDX-License-Identifier: Apache-2.0
"""Argo CD brings the chart, sees no drift in it, and takes it away when the agents have retired.

Argo CD, API server and controllers are real; kubelet and agent are played.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.gitops import argo
from tests.gitops.argo import APPLICATIONS, Argo
from tests.gitops.checks import KEPT, scale_down, scaled_back, versions
from tests.support.release.installing import create, everything
from tests.support.release.playing import (
    NODE,
    Agent,
    Kubelet,
    acting,
    left,
    until,
    with_controllers,
)
from tests.support.release.surviving import BASE, DEFAULT, PLACEMENT, delete_crds

pytestmark = pytest.mark.timeout(3600)
# What an Application that Argo CD deletes has to have.
FOR_ARGO_CD = {"argocd": True, "timeoutSeconds": 5}


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Argo]:
    work = tmp_path_factory.mktemp("argo")
    with with_controllers(work) as cluster, argo.running(cluster, work) as found:
        yield found


@pytest.mark.parametrize("options", [(), ("ServerSideApply=true",)], ids=["client", "server"])
def test_argo_brings_keeps_and_takes_away_a_release(
    controller: Argo, options: tuple[str, ...], tmp_path: Path
) -> None:
    cluster = controller.cluster
    before = everything(cluster)
    app = argo.application(controller.repository, *options, uninstall=FOR_ARGO_CD)
    kubelet, agent = Kubelet(cluster, tmp_path), Agent(cluster, retires=False)
    with acting(kubelet.act, agent.act):
        assert create(cluster, app).returncode == 0
        until(lambda: controller.state() == "Synced", 120)
        until(lambda: agent.mode() == "Active")
        assert create(cluster, PLACEMENT, DEFAULT).returncode == 0

        # It looks again, and has nothing to do.
        first = versions(cluster)
        assert len(first) > 15
        for _ in range(2):
            controller.refresh()
            assert controller.state() == "Synced"
        assert versions(cluster) == first

        # It would have seen a change.
        scale_down(cluster)
        until(lambda: scaled_back(cluster))

        # As long as an agent has not retired, nothing is deleted.
        assert cluster.call("DELETE", f"{APPLICATIONS}/memplace").ok
        until(lambda: "not retired after 5 s" in kubelet.said)
        there = set(versions(cluster)) - {"Job/memplace-retire"}
        assert there == set(first)

        # It is tried again, keeps what people wrote, and ends.
        agent.retires = True
        until(controller.gone, 300)
        assert "all agents have ended" in kubelet.said
        assert cluster.call("GET", f"{BASE}/nodememories/{NODE}").status == 404
        until(lambda: not agent.installation())
    assert left(cluster, before) == KEPT
    delete_crds(cluster)


def test_a_hook_that_argo_takes_for_done_is_waited_for(controller: Argo, tmp_path: Path) -> None:
    cluster = controller.cluster
    before = everything(cluster)
    app = argo.application(controller.repository, uninstall=FOR_ARGO_CD)
    kubelet, agent = Kubelet(cluster, tmp_path), Agent(cluster)
    with acting(kubelet.act, agent.act):
        assert create(cluster, app).returncode == 0
        until(lambda: controller.state() == "Synced", 120)
        until(lambda: agent.mode() == "Active")
        # Argo CD itself may not know yet of the Job that it has made: its cache comes later. Here
        # it does not know of it because it has not made it.
        job = argo.hook(cluster, uninstall=FOR_ARGO_CD)
        job["spec"]["suspend"] = True
        assert create(cluster, job).returncode == 0
        first = set(versions(cluster))
        assert cluster.call("DELETE", f"{APPLICATIONS}/memplace").ok
        until(lambda: argo.HOOK not in controller.application()["metadata"]["finalizers"])
        time.sleep(5)
        assert set(versions(cluster)) == first
        assert agent.mode() == "Active"

        resumed = {"spec": {"suspend": False}}
        assert cluster.call("PATCH", argo.JOB, resumed).ok
        until(controller.gone, 120)
        assert "all agents have ended" in kubelet.said
        assert cluster.call("GET", f"{BASE}/nodememories/{NODE}").status == 404
        assert cluster.call("DELETE", argo.JOB, propagationPolicy="Background").ok
    delete_crds(cluster)
    assert left(cluster, before) == set()


def test_the_way_out_when_an_agent_does_not_retire(controller: Argo, tmp_path: Path) -> None:
    cluster = controller.cluster
    before = everything(cluster)
    app = argo.application(controller.repository, uninstall=FOR_ARGO_CD)
    kubelet, agent = Kubelet(cluster, tmp_path), Agent(cluster, retires=False)
    with acting(kubelet.act, agent.act):
        assert create(cluster, app).returncode == 0
        until(lambda: controller.state() == "Synced", 120)
        until(lambda: agent.mode() == "Active")
        assert cluster.call("DELETE", f"{APPLICATIONS}/memplace").ok
        until(lambda: "not retired after 5 s" in kubelet.said)
        assert not controller.gone()
        # As docs/install.md says.
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        meta = {"finalizers": [argo.CASCADE], "annotations": {argo.APPROVED: now}}
        assert cluster.call("PATCH", f"{APPLICATIONS}/memplace", {"metadata": meta}).ok
        until(controller.gone, 120)
    assert cluster.kubectl("delete", "nodememories", "--all").returncode == 0
    delete_crds(cluster)
    assert left(cluster, before) == set()


@pytest.mark.parametrize("retire", [True, False], ids=["with hook", "without"])
def test_an_application_that_is_deleted_alone(
    controller: Argo, *, retire: bool, tmp_path: Path
) -> None:
    cluster = controller.cluster
    before = everything(cluster)
    app = argo.application(controller.repository, uninstall=FOR_ARGO_CD)
    del app["metadata"]["finalizers"]
    kubelet, agent = Kubelet(cluster, tmp_path), Agent(cluster)
    with acting(kubelet.act, agent.act):
        assert create(cluster, app).returncode == 0
        until(lambda: controller.state() == "Synced", 120)
        until(lambda: agent.mode() == "Active")
        if not retire:
            # As docs/install.md says.
            values = {"valuesObject": {"uninstall": FOR_ARGO_CD | {"retire": False}}}
            spec = {"spec": {"source": {"helm": values}}}
            assert cluster.call("PATCH", f"{APPLICATIONS}/memplace", spec).ok
            until(lambda: not controller.application()["metadata"].get("finalizers"), 120)
            until(lambda: controller.state() == "Synced", 120)
        assert cluster.call("DELETE", f"{APPLICATIONS}/memplace").ok
        until(controller.gone, 120)
        # The hook runs although nothing else is to be deleted.
        assert bool(agent.installation()) is not retire
        assert ("DaemonSet/memplace-agent" in versions(cluster)) is not retire
        assert "Deployment/memplace-operator" in versions(cluster)
        where = ("--all-namespaces", "--selector=app.kubernetes.io/name=memplace")
        kinds = ",".join(sorted({name.split("/")[0].lower() for name in versions(cluster)}))
        assert cluster.kubectl("delete", kinds, *where).returncode == 0
        assert cluster.kubectl("delete", "nodememories", "--all").returncode == 0
    delete_crds(cluster)
    assert left(cluster, before) == set()
