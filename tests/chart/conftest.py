# SPDX-License-Identifier: Apache-2.0
"""The real helm, and a real API server with RBAC and all admission, once per run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from memplace_lab.product.apiserver import ApiServer, find_binaries

from tests.support import ROOT
from tests.support.release.installing import (
    NAMESPACE,
    Chart,
    Json,
    create,
    everything,
    install,
    namespace,
)
from tests.support.release.surviving import WHERE, delete_crds, fill

CHART = ROOT / "charts" / "memplace"


@pytest.fixture(scope="session")
def chart() -> Chart:
    return Chart(find_binaries() / "helm", CHART)


@pytest.fixture(scope="session")
def objects(chart: Chart) -> list[Json]:
    """Return everything the chart makes of its default values."""
    return chart.render()


@pytest.fixture(scope="session")
def one(objects: list[Json]) -> Callable[[str, str], Json]:
    """Return the object of a kind and name among those of the default values."""

    def find(kind: str, name: str) -> Json:
        wanted = (kind, f"memplace-{name}")
        (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == wanted]
        return found

    return find


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Yield an API server of this suite's own: it counts what is there."""
    options = ["--enable-admission-plugins=NodeRestriction", "--allow-privileged=true"]
    with ApiServer(tmp_path_factory.mktemp("apiserver"), *options).running() as server:
        yield server


@pytest.fixture(scope="session")
def prepared(cluster: ApiServer) -> Any:
    """Return the cluster with the product's namespace."""
    done = create(cluster, namespace(NAMESPACE, "privileged"))
    assert done.returncode == 0, done.stderr
    return cluster


@pytest.fixture
def clean(prepared: ApiServer) -> Iterator[ApiServer]:
    """Yield the cluster without the product; afterwards nothing of it is left."""
    before = everything(prepared)
    yield prepared
    prepared.helm("uninstall", "memplace", *WHERE, "--no-hooks", "--ignore-not-found")
    delete_crds(prepared)
    left = [(kind, name) for kind, name in everything(prepared) - before if kind != "APIService"]
    for kind, name in left:
        space, _, name = name.partition("/")
        prepared.kubectl("delete", kind, name, *(["--namespace", space] if space else []))


@pytest.fixture
def release(clean: ApiServer, chart: Chart) -> ApiServer:
    """Return the cluster with the chart installed, a placement and a node's report."""
    install(clean, chart)
    fill(clean)
    return clean


@pytest.fixture
def no_selftest(chart: Chart) -> Callable[[], list[Json]]:
    """Render what can be applied where no account is given a token, so no bare pods."""
    return lambda: chart.render("tests.enabled=false", "networkPolicy.enabled=true")
