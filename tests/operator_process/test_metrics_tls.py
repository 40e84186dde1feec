# SPDX-License-Identifier: Apache-2.0
"""Metrics of operator and agent by HTTPS, from the environment of their processes on."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from memplace_lab.base.loopback import free_port
from memplace_lab.product.apiserver import ApiServer
from memplace_lab.product.operating import API, Operator

from tests.operator_process.test_agent import LEASES
from tests.operator_process.whole_agent import whole_agent
from tests.support.authority import Authority, mount, scrape
from tests.support.cluster import Cluster, eventually, operating

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Secured:
    operator: Operator
    port: int
    folder: Path
    authority: Authority


def asking(folder: Path, port: int) -> dict[str, str]:
    """Return the environment that the chart gives for both values of metrics.tls."""
    return {
        "MEMPLACE_METRICS_TLS": str(folder),
        "MEMPLACE_METRICS_CLIENT_CA": str(folder / "clients.crt"),
        "MEMPLACE_METRICS_PORT": str(port),
    }


@pytest.fixture(scope="module")
def secured(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    work = tmp_path_factory.mktemp("secured")
    authority, folder = Authority(work, "authority"), work / "tls"
    mount(folder, authority.server("first"), authority)
    port = free_port()
    with operating(api, work, **asking(folder, port)) as operator:
        yield Secured(operator, port, folder, authority)


def test_who_has_a_certificate_reads_them_and_nobody_else(secured: Secured) -> None:
    client = secured.authority.client("prometheus")
    status, text, name = scrape(secured.port, secured.authority, client)
    assert (status, name) == (200, "first")
    assert 'memplace_build_info{component="operator"' in text
    with pytest.raises(ssl.SSLError, match="certificate required"):
        scrape(secured.port, secured.authority)
    stranger = Authority(secured.folder.parent, "strangers").client("stranger")
    with pytest.raises(ssl.SSLError, match="unknown ca"):
        scrape(secured.port, secured.authority, stranger)


def test_the_kubelets_port_has_health_and_no_metrics(secured: Secured) -> None:
    eventually(secured.operator.is_ready)
    assert secured.operator.get("/healthz")[0] == 200
    assert secured.operator.get("/metrics")[0] == 404


def test_a_renewed_certificate_is_shown_by_the_same_process(secured: Secured) -> None:
    client = secured.authority.client("prometheus")
    mount(secured.folder, secured.authority.server("second"), secured.authority)
    assert scrape(secured.port, secured.authority, client)[2] == "second"
    assert secured.operator.process.poll() is None
    said = [line["message"] for line in secured.operator.log()]
    assert sum("metrics are served with the certificate" in line for line in said) == 2


def test_an_authority_that_was_replaced_is_believed_no_more(secured: Secured) -> None:
    newer = Authority(secured.folder.parent, "newer")
    client = secured.authority.client("prometheus")
    mount(secured.folder, secured.authority.server("third"), newer)
    with pytest.raises(ssl.SSLError, match="unknown ca"):
        scrape(secured.port, secured.authority, client)
    assert scrape(secured.port, secured.authority, newer.client("next"))[0] == 200


def test_an_agents_metrics_have_the_same_port(
    cluster: Cluster, api: ApiServer, tmp_path: Path
) -> None:
    authority, folder = Authority(tmp_path, "authority"), tmp_path / "tls"
    mount(folder, authority.server("agent"), authority)
    cluster.made(f"{API}/nodememories/{cluster.node}", f"{LEASES}/{cluster.node}")
    secure = free_port()
    env = asking(folder, secure)
    with whole_agent(api, cluster.node, tmp_path / "agent", env=env) as agent:
        eventually(lambda: agent.is_ready, timeout_s=60)
        assert agent.get("/metrics")[0] == 404
        status, text, name = scrape(secure, authority, authority.client("prometheus"))
        assert (status, name) == (200, "agent")
        assert 'memplace_build_info{component="agent"' in text
        with pytest.raises(ssl.SSLError, match="certificate required"):
            scrape(secure, authority)
