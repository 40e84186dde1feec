# SPDX-License-Identifier: Apache-2.0
"""A real API server, the real operator as a process, and a played agent and kubelet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from memplace_kube.client import Server, tls
from memplace_lab.product.apiserver import ADMIN, ApiServer
from memplace_lab.product.operating import RBAC, Operator
from memplace_lab.product.rights import ELECTION_RULES, LEASE_RULES, USERS

from tests.support import names
from tests.support.cluster import Cluster, operating


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Yield an API server with our CRDs and users that may do what the chart allows."""
    work = tmp_path_factory.mktemp("apiserver")
    # Nobody makes the accounts that it would have pods wait for.
    option = "--disable-admission-plugins=ServiceAccount"
    with ApiServer(work, option, users=tuple(USERS)).running() as server:
        server.install_crds()
        for user, rules in USERS.items():
            meta = {"name": f"test-{user}"}
            assert server.call(
                "POST", f"{RBAC}/clusterroles", {"metadata": meta, "rules": rules}
            ).ok
            group = "rbac.authorization.k8s.io"
            binding = {
                "metadata": meta,
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": f"test-{user}"},
                "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
            }
            assert server.call("POST", f"{RBAC}/clusterrolebindings", binding).ok
            rules = [*LEASE_RULES, *(ELECTION_RULES if user == "operator" else [])]
            _may_use_leases(server, rules, meta, binding)
        yield server


def _may_use_leases(
    server: ApiServer, rules: list[Any], meta: dict[str, Any], binding: dict[str, Any]
) -> None:
    path = f"{RBAC}/namespaces/default"
    assert server.call("POST", f"{path}/roles", {"metadata": meta, "rules": rules}).ok
    role = {**binding, "roleRef": {**binding["roleRef"], "kind": "Role"}}
    assert server.call("POST", f"{path}/rolebindings", role).ok


@pytest.fixture(scope="module")
def operator(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Yield the operator, ready."""
    with operating(api, tmp_path_factory.mktemp("operator")) as process:
        yield process


@pytest.fixture
def cluster(api: ApiServer, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Yield a namespace and a node of the test's own."""
    found = Cluster(api, names.of_test(request.node.path, request.node.name))
    yield found
    found.clean()


@pytest.fixture
def server(api: ApiServer, tmp_path: Path) -> Server:
    """The API server as an agent sees it."""
    token = tmp_path / "token"
    token.write_text(f"{ADMIN}\n")
    port = int(api.url.rpartition(":")[2])
    return Server(
        host="127.0.0.1", port=port, context=tls(api.ca), token=token, namespace="default"
    )
