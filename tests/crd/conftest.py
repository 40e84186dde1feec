# SPDX-License-Identifier: Apache-2.0
"""A real API server with our CRDs, once per run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.apiserver import ApiServer, load_crds


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
