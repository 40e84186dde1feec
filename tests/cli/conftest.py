# SPDX-License-Identifier: Apache-2.0
"""A real API server with our CRDs, and what users, kubelets, agents and an operator write.

The command runs in this process: a process of its own takes seconds to import its client, and
`test_program.py` has one for each way it is started.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from memplace_cli.app import main
from memplace_lab.product.apiserver import ApiServer

from tests.cli.planner import Planner
from tests.cli.site import SYSTEM, Memplace, Ran, Site
from tests.support import names


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Yield an API server; `tenant` may read one namespace, `nobody` nothing."""
    work = tmp_path_factory.mktemp("apiserver")
    option = "--disable-admission-plugins=ServiceAccount"
    with ApiServer(work, option, users=("tenant", "nobody")).running() as server:
        server.install_crds()
        yield server


@pytest.fixture
def memplace(api: ApiServer, capfd: pytest.CaptureFixture[str]) -> Memplace:
    """Return a way to run the command as a user of the API server."""

    def run(*args: str, user: str = "admin", kubeconfig: Path | None = None) -> Ran:
        where = ["--kubeconfig", str(kubeconfig or api.kubeconfig(user))]
        capfd.readouterr()
        try:
            code = main([*args, *where, "--system-namespace", SYSTEM])
        except SystemExit as end:
            code = int(end.code or 0)
        return Ran(code, *capfd.readouterr())

    return run


@pytest.fixture
def site(api: ApiServer, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Yield a namespace and a node of the test's own."""
    # Short: it stands in tables, beside bars that take the rest of the line.
    found = Site(api, names.of_test(request.node.path, request.node.name, longest=24))
    yield found
    found.clean()


@pytest.fixture
def plan(memplace: Memplace, site: Site, tmp_path: Path) -> Planner:
    return Planner(memplace, site, tmp_path)
