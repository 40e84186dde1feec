# SPDX-License-Identifier: Apache-2.0
"""A real API server with our CRDs, once per run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from memplace_lab.product.apiserver import ApiServer

from tests.crd.accepted import ACCEPTED
from tests.crd.manifests import BASE, PLACEMENTS, TIERS, placement, tier
from tests.support.crds import load_crds

NODES = f"{BASE}/nodememories"


@pytest.fixture(scope="session")
def crds() -> dict[str, dict[str, Any]]:
    """Return the CRDs by kind."""
    return {crd["spec"]["names"]["kind"]: crd for crd in load_crds()}


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Yield an API server that serves the CRDs."""
    with ApiServer(tmp_path_factory.mktemp("apiserver")).running() as server:
        server.install_crds()
        yield server


@pytest.fixture(scope="module")
def stored_objects(api: Any) -> Iterator[None]:
    """Have one of each kind whose status can be written."""
    made = []
    for path, name, obj in (
        (PLACEMENTS, "stored", placement(ACCEPTED["smallest"])),
        (TIERS, "stored", tier("stored", {"numaNodes": [1]})),
        (NODES, "worker-1", {"apiVersion": "memplace.dev/v1alpha1", "kind": "NodeMemory"}),
    ):
        answer = api.call("POST", path, obj | {"metadata": {"name": name}})
        assert answer.ok, answer.message
        made.append(f"{path}/{name}")
    yield
    for path in made:
        assert api.call("DELETE", path).ok
