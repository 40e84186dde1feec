# SPDX-License-Identifier: Apache-2.0
"""Metrics by HTTPS, set up as docs/operate.md says, and a real Prometheus that reads them."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from memplace_agent.metrics import Metrics
from memplace_kube.server import SecureServer
from memplace_kube.serving import SecurePort, ServerTls

from tests.chart.server import asked, running
from tests.support import ROOT
from tests.support.authority import NAME, Authority, mount
from tests.support.release.installing import create

Json = dict[str, Any]
WORKLOADS = {"Deployment": "operator", "DaemonSet": "agent"}


def documented() -> list[str]:
    """Return the values of docs/operate.md, as settings."""
    page = (ROOT / "docs/operate.md").read_text()
    (block,) = re.findall(r"```yaml\n# metrics-tls\.yaml\n(.*?)```", page, re.DOTALL)
    return [f"{key}={json.dumps(value)}" for key, value in yaml.safe_load(block).items()]


@pytest.fixture(scope="module")
def secured(chart: Any) -> list[Json]:
    found: list[Json] = chart.render(*documented(), "networkPolicy.enabled=true")
    return found


def pod_of(objects: list[Json], kind: str) -> Json:
    (found,) = [o for o in objects if o["kind"] == kind]
    spec: Json = found["spec"]["template"]["spec"]
    return spec


def test_by_default_nobody_gets_a_secret_or_a_port(objects: list[Json]) -> None:
    for kind in WORKLOADS:
        spec = pod_of(objects, kind)
        assert [p["name"] for p in spec["containers"][0]["ports"]] == ["http"]
        assert "METRICS" not in str(spec) and "secret" not in str(spec.get("volumes"))


@pytest.mark.parametrize("kind", WORKLOADS)
def test_the_container_that_serves_them_has_the_certificate(secured: list[Json], kind: str) -> None:
    spec = pod_of(secured, kind)
    (container,) = spec["containers"]
    env = {e["name"]: e.get("value") for e in container["env"]}
    (where,) = [m for m in container["volumeMounts"] if m["name"] == "metrics-tls"]
    # A volume that is mounted by subPath is never renewed.
    assert where == {"name": "metrics-tls", "mountPath": where["mountPath"], "readOnly": True}
    assert env["MEMPLACE_METRICS_TLS"] == where["mountPath"]
    assert env["MEMPLACE_METRICS_CLIENT_CA"] == f"{where['mountPath']}/clients.crt"
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports == {"http": 8080, "metrics": int(env["MEMPLACE_METRICS_PORT"])}
    (volume,) = [v for v in spec["volumes"] if v["name"] == "metrics-tls"]
    files = {
        (source["secret"]["name"], item["key"]): item["path"]
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    assert files == {
        ("memplace-metrics", "tls.crt"): "tls.crt",
        ("memplace-metrics", "tls.key"): "tls.key",
        ("memplace-metrics", "ca.crt"): "clients.crt",
    }
    # Memory is placed while metrics wait for their certificate.
    assert all(source["secret"]["optional"] for source in volume["projected"]["sources"])
    # The kubelet asks for health without a certificate.
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "http"
    assert "metrics-tls" not in str(spec.get("initContainers"))


def test_nobody_but_those_two_gets_the_certificate(secured: list[Json]) -> None:
    having = {o["metadata"]["name"] for o in secured if "metrics-tls" in str(o.get("spec"))}
    assert having == {"memplace-operator", "memplace-agent"}


def test_monitors_ask_by_https_and_policies_let_them(secured: list[Json]) -> None:
    monitors = [o for o in secured if o["kind"] == "PodMonitor"]
    assert len(monitors) == 2
    for monitor in monitors:
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert (endpoint["port"], endpoint["scheme"]) == ("metrics", "https")
        assert endpoint["tlsConfig"]["serverName"] == NAME
    policies = [o for o in secured if o["kind"] == "NetworkPolicy" and "ingress" in o["spec"]]
    assert len(policies) == 2
    for policy in policies:
        assert [p["port"] for p in policy["spec"]["ingress"][0]["ports"]] == ["http", "metrics"]


def test_without_tls_monitors_ask_as_before(chart: Any) -> None:
    found = chart.render("podMonitor.enabled=true")
    for monitor in (o for o in found if o["kind"] == "PodMonitor"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint == {"port": "http", "path": "/metrics", "interval": "30s"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (['metrics.tls.clientCASecretName="a"'], "set metrics.tls.secretName, too"),
        (
            ['metrics.tls.secretName="a"', "podMonitor.enabled=true"],
            "set podMonitor.tlsConfig: with metrics.tls.secretName, Prometheus needs",
        ),
    ],
)
def test_halves_of_it_are_refused(chart: Any, settings: list[str], says: str) -> None:
    done = chart.template(*settings)
    assert done.returncode != 0
    assert says in done.stderr


def test_the_api_server_takes_it(secured: list[Json], prepared: Any) -> None:
    found = [o for o in secured if o["kind"] in {*WORKLOADS, "Service", "NetworkPolicy"}]
    done = create(prepared, *found, dry_run=True)
    assert done.returncode == 0, done.stderr


def config_of(monitor: Json, folder: Path, port: int, *, certificate: bool = True) -> Json:
    """Return what the Prometheus operator makes of a PodMonitor, for one address."""
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    tls = endpoint["tlsConfig"]
    secrets = {"ca": tls["ca"]["secret"]}
    if certificate:
        secrets |= {"cert": tls["cert"]["secret"], "key": tls["keySecret"]}
    config = {f"{key}_file": str(folder / s["name"] / s["key"]) for key, s in secrets.items()}
    job = {
        "job_name": "memplace",
        "scheme": endpoint["scheme"],
        "metrics_path": endpoint["path"],
        "scrape_interval": "1s",
        "tls_config": {**config, "server_name": tls["serverName"]},
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }
    return {"scrape_configs": [job]}


@pytest.mark.parametrize("certificate", [True, False], ids=["with", "without"])
def test_a_real_prometheus_reads_them_with_its_certificate_only(
    secured: list[Json], tmp_path: Path, *, certificate: bool
) -> None:
    authority = Authority(tmp_path, "authority")
    server, client = authority.server("server"), authority.client("client")
    for name, issued in (("memplace-metrics", server), ("prometheus-client", client)):
        (tmp_path / name).mkdir()
        shutil.copy(issued.certificate, tmp_path / name / "tls.crt")
        shutil.copy(issued.key, tmp_path / name / "tls.key")
        shutil.copy(authority.certificate, tmp_path / name / "ca.crt")
    mount(tmp_path / "tls", server, authority)
    files = SecurePort(
        port=0,
        certificate=tmp_path / "tls/tls.crt",
        key=tmp_path / "tls/tls.key",
        clients=tmp_path / "tls/clients.crt",
    )
    metrics = Metrics()
    metrics.build("0.1.0")
    served = SecureServer(0, metrics.text, ServerTls(files))
    served.start()
    (monitor,) = [
        o
        for o in secured
        if o["kind"] == "PodMonitor" and o["metadata"]["name"] == "memplace-agent"
    ]
    config = config_of(monitor, tmp_path, served.port, certificate=certificate)
    folder = tmp_path / "prometheus"
    folder.mkdir()
    try:
        with running(folder, config) as url:
            (target,) = _scraped(url)
            assert target["health"] == ("up" if certificate else "down"), target["lastError"]
            assert certificate or "certificate required" in target["lastError"]
            found = asked(url, "/api/v1/query", query="memplace_build_info")["result"]
            assert bool(found) is certificate
    finally:
        served.stop()


def _scraped(url: str) -> list[Json]:
    deadline = time.monotonic() + 60
    while True:
        found: list[Json] = asked(url, "/api/v1/targets")["activeTargets"]
        if found and all(target["health"] != "unknown" for target in found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
