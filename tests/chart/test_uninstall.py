# SPDX-License-Identifier: Apache-2.0
"""helm uninstall with its hook: real Helm, API server, controllers; kubelet and agent play."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from memplace_lab.product.apiserver import ApiServer

from tests.support.release.installing import Chart, create, everything
from tests.support.release.playing import (
    NODE,
    Agent,
    Kubelet,
    acting,
    left,
    until,
    with_controllers,
)
from tests.support.release.surviving import BASE, CRDS, DEFAULT, PLACEMENT, WHERE

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with with_controllers(tmp_path_factory.mktemp("whole")) as server:
        yield server


def install(cluster: ApiServer, chart: Chart, *more: str) -> None:
    done = cluster.helm("upgrade", "--install", "memplace", chart.folder, *WHERE, *more)
    assert done.returncode == 0, done.stderr


def test_a_release_comes_goes_comes_and_goes_for_good(
    whole: ApiServer, chart: Chart, tmp_path: Path
) -> None:
    before = everything(whole)
    kubelet, agent = Kubelet(whole, tmp_path), Agent(whole, retires=False)
    with acting(kubelet.act, agent.act):
        install(whole, chart, "--set", "uninstall.timeoutSeconds=15")
        assert create(whole, PLACEMENT, DEFAULT).returncode == 0
        until(lambda: agent.mode() == "Active")

        # An agent that can't retire: nothing is deleted, and the log says why.
        failed = whole.helm("uninstall", "memplace", *WHERE, "--timeout", "60s")
        assert failed.returncode != 0
        assert f"node {NODE}: Undoing" in kubelet.said
        assert "helm rollback" in kubelet.said
        assert agent.mode() == "Retired"
        assert whole.kubectl("get", "job", "memplace-retire", *WHERE).returncode == 0
        assert whole.kubectl("get", "mp", "precious").returncode == 0

        # On without it: the next installation works although nobody took the word back.
        gone = whole.helm("uninstall", "memplace", *WHERE, "--no-hooks")
        assert gone.returncode == 0, gone.stderr
        until(lambda: not agent.installation())
        assert whole.call("GET", f"{BASE}/nodememories/{NODE}").body["spec"]["agent"] == "Retired"
        install(whole, chart, "--set", "uninstall.timeoutSeconds=30")
        until(lambda: agent.mode() == "Active")

        # An agent that can: all goes but what people wrote.
        agent.retires = True
        done = whole.helm("uninstall", "memplace", *WHERE, "--timeout", "90s")
        assert done.returncode == 0, done.stderr + kubelet.said
        assert "all agents have ended" in kubelet.said
        until(lambda: not agent.installation())
        assert left(whole, before) == {
            *(("CustomResourceDefinition", f"/{name}") for name in CRDS),
            ("ClusterMemoryPlacement", "/common"),
            ("MemoryPlacement", "default/precious"),
        }

        # And with the words for it, that too.
        asked = ["uninstall.deletePlacements=true", "crds.keep=false"]
        install(whole, chart, *(word for value in asked for word in ("--set", value)))
        until(lambda: agent.mode() == "Active")
        done = whole.helm("uninstall", "memplace", *WHERE, "--timeout", "90s")
        assert done.returncode == 0, done.stderr + kubelet.said
        until(lambda: not left(whole, before))
