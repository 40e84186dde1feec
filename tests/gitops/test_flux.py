# SPDX-License-Identifier: Apache-2.0
"""Flux brings a release, sees no drift in it, and takes it away with the hook.

Helm-controller, API server and controllers are real; kubelet and agent are played, and so is the
source-controller, which would only fetch the chart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gitops import flux
from tests.gitops.checks import KEPT, scale_down, scaled_back, versions
from tests.gitops.flux import RELEASE, RELEASES, Flux
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
from tests.support.release.surviving import BASE, DEFAULT, PLACEMENT

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flux]:
    work = tmp_path_factory.mktemp("flux")
    with with_controllers(work) as cluster, flux.running(cluster, work) as found:
        found.offer()
        yield found


def test_flux_brings_keeps_and_takes_away_a_release(controller: Flux, tmp_path: Path) -> None:
    cluster = controller.cluster
    before = everything(cluster)
    kubelet, agent = Kubelet(cluster, tmp_path), Agent(cluster)
    with acting(kubelet.act, agent.act):
        assert create(cluster, RELEASE).returncode == 0
        until(lambda: controller.ready()[0] == "InstallSucceeded", 120)
        until(lambda: agent.mode() == "Active")
        assert create(cluster, PLACEMENT, DEFAULT).returncode == 0

        # It looks again, and has nothing to do.
        first = versions(cluster)
        assert len(first) > 15
        for word in ("second", "third"):
            controller.reconcile(word)
        assert versions(cluster) == first
        assert len(controller.release()["status"]["history"]) == 1
        assert "DriftDetected" not in str(controller.events())

        # It would have seen a change.
        scale_down(cluster)
        controller.reconcile("fourth")
        assert "DriftDetected" in str(controller.events())
        until(lambda: scaled_back(cluster))

        # Its uninstall runs the hook, which retires the agents, and keeps what people wrote.
        assert cluster.call("DELETE", f"{RELEASES}/memplace").ok
        until(lambda: cluster.call("GET", f"{RELEASES}/memplace").status == 404, 180)
        assert "all agents have ended" in kubelet.said
        assert cluster.call("GET", f"{BASE}/nodememories/{NODE}").status == 404
        until(lambda: not agent.installation())
    assert left(cluster, before) == KEPT
