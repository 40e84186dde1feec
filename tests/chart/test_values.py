# SPDX-License-Identifier: Apache-2.0
"""Each value of the chart has its effect, is documented, and bad ones are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from memplace import __version__

from tests.support import chart_readme as readme

Json = dict[str, Any]


def crds_of(objects: list[Json]) -> list[Json]:
    return [o for o in objects if o["kind"] == "CustomResourceDefinition"]


def test_definitions_can_be_left_to_others(chart: Any) -> None:
    assert len(crds_of(chart.render())) == 4
    assert crds_of(chart.render("crds.enabled=false")) == []


def test_definitions_go_only_by_the_word_for_placements(chart: Any) -> None:
    for settings in (
        ["crds.keep=false"],
        ["crds.keep=false", "crds.enabled=false"],
        ["crds.keep=false", "uninstall.deletePlacements=true", "uninstall.retire=false"],
    ):
        done = chart.template(*settings)
        assert done.returncode != 0
        assert "set uninstall.deletePlacements=true" in done.stderr
    # Even then Helm leaves them alone, since an upgrade may leave them out: the hook deletes.
    found = chart.render("crds.keep=false", "uninstall.deletePlacements=true")
    for crd in crds_of(found):
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (job,) = [o for o in found if o["kind"] == "Job"]
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"--delete=agents", "--delete=placements", "--delete=crds"} < set(args)


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], f"memplace/agent:{__version__}"),
        (['agent.image.tag="9"'], "memplace/agent:9"),
        ([f'agent.image.digest="{DIGEST}"', 'agent.image.tag="9"'], f"memplace/agent@{DIGEST}"),
        (['image.registry="10.0.0.1:5000"'], f"10.0.0.1:5000/memplace/agent:{__version__}"),
    ],
)
def test_the_reference_of_an_image(chart: Any, settings: list[str], expected: str) -> None:
    (agent,) = [o for o in chart.render(*settings) if o["kind"] == "DaemonSet"]
    assert agent["spec"]["template"]["spec"]["containers"][0]["image"] == expected


# For every value: a value unlike the default, and text that then has to be there.
TOGGLES = {
    "nameOverride": ("other", "name: memplace-other-agent"),
    "fullnameOverride": ("mine", "name: mine-agent"),
    "revisionHistoryLimit": (77, "revisionHistoryLimit: 77"),
    "commonLabels": ({"team": "memory"}, "team: memory"),
    "crds.enabled": (False, None),
    "image.registry": ("registry.example:5000", "registry.example:5000/memplace/agent"),
    "image.pullPolicy": ("Always", "imagePullPolicy: Always"),
    "image.pullSecrets": ([{"name": "mine"}], "- name: mine"),
    "logLevel": ("debug", "MEMPLACE_LOG_LEVEL, value: debug"),
    "rbac.create": (False, None),
    "rbac.aggregate": (False, None),
    "admissionPolicy.enabled": (False, None),
    "openshift.securityContextConstraints": (True, "kind: SecurityContextConstraints"),
    "tenancy.bind": ("Anybody", None),
    "tenancy.tiers": ("Granted", "name: tiers.memplace.dev"),
    "uninstall.retire": (False, None),
    "uninstall.timeoutSeconds": (77, "--timeout=77"),
    "uninstall.deletePlacements": (True, "--delete=placements"),
    "uninstall.argocd": (True, "- --force"),
    "tests.enabled": (False, None),
    "tests.timeoutSeconds": (77, 'selftest, --timeout, "77"'),
    "networkPolicy.enabled": (True, "kind: NetworkPolicy"),
    "metrics.tls.secretName": ("odd", 'MEMPLACE_METRICS_PORT, value: "8443"'),
    "podMonitor.enabled": (True, "kind: PodMonitor"),
    "prometheusRule.enabled": (True, "kind: PrometheusRule"),
    "dashboard.enabled": (True, "kind: ConfigMap"),
    "operator.topologySpreadConstraints": ([{"maxSkew": 77}], "maxSkew: 77"),
    "operator.podDisruptionBudget.enabled": (True, "kind: PodDisruptionBudget"),
    "operator.replicas": (2, "replicas: 2"),
    "extraObjects": (
        [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "{{ .Release.Name }}-odd"},
            }
        ],
        "memplace-odd",
    ),
    "agent.auditSeconds": (77, 'MEMPLACE_AUDIT_S, value: "77"'),
    "agent.explainPort": (7777, 'MEMPLACE_EXPLAIN_PORT, value: "7777"'),
    "agent.shimDefault.enabled": (False, 'MEMPLACE_SHIM_DEFAULT, value: "false"'),
    "agent.moveBandwidth": ("2Gi", "MEMPLACE_MOVE_BANDWIDTH, value: 2Gi"),
    "agent.nri.enabled": (True, "MEMPLACE_NRI_SOCKET, value: /host/run/nri/nri.sock"),
    "agent.kubeletRootDir": ("/data/kubelet", "/data/kubelet/seccomp/memplace"),
    "agent.seccomp.type": ("Unconfined", None),
    "agent.appArmorProfile.type": ("", None),
    "agent.appArmorProfile.localhostProfile": ("odd", "localhostProfile: odd"),
    "agent.seLinuxOptions": ({"type": "spc_t"}, "type: spc_t"),
    "agent.maxUnavailable": (3, "maxUnavailable: 3"),
} | {
    f"{component}.{key}": value
    for component in ("operator", "agent")
    for key, value in {
        "image.repository": ("mine/it", f"mine/it:{__version__}"),
        "image.tag": ("9.9", ":9.9"),
        "image.digest": (DIGEST, DIGEST),
        "serviceAccount.create": (False, None),
        "serviceAccount.name": ("somebody", "serviceAccountName: somebody"),
        "serviceAccount.annotations": ({"who": "me"}, "who: me"),
        "podLabels": ({"which": "this"}, "which: this"),
        "extraArgs": (["--odd=yes", "7"], '- --odd=yes\n          - "7"'),
        "extraEnv": ([{"name": "ODD", "value": "yes"}], "name: ODD"),
        "volumes": ([{"name": "odd", "emptyDir": {}}], "emptyDir: {}"),
        "volumeMounts": ([{"name": "odd", "mountPath": "/odd"}], "mountPath: /odd"),
        "podAnnotations": ({"why": "so"}, "why: so"),
        "priorityClassName": ("high", "priorityClassName: high"),
        "resources": ({"requests": {"cpu": "77m"}}, "cpu: 77m"),
        "probes": (
            {"startup": {"periodSeconds": 77, "timeoutSeconds": 1, "failureThreshold": 1}},
            "periodSeconds: 77",
        ),
        "nodeSelector": ({"disk": "fast"}, "disk: fast"),
        "tolerations": ([{"key": "odd", "operator": "Exists"}], "key: odd"),
        "affinity": ({"nodeAffinity": {}}, "affinity:"),
        "hostAliases": ([{"ip": "10.7.7.7", "hostnames": ["odd"]}], "ip: 10.7.7.7"),
        "dnsPolicy": ("Default", "dnsPolicy: Default"),
        "dnsConfig": ({"nameservers": ["10.7.7.7"]}, "dnsConfig:"),
    }.items()
}
# These act only together with another value.
TOGETHER = {
    "crds.keep": ("uninstall.deletePlacements=true", False, "--delete=crds"),
    "operator.podDisruptionBudget.maxUnavailable": (
        "operator.podDisruptionBudget.enabled=true",
        77,
        "maxUnavailable: 77",
    ),
    "networkPolicy.apiServerPorts": ("networkPolicy.enabled=true", [7777], "port: 7777"),
    "networkPolicy.apiServerPeers": (
        "networkPolicy.enabled=true",
        [{"ipBlock": {"cidr": "10.7.7.7/32"}}],
        "cidr: 10.7.7.7/32",
    ),
    "networkPolicy.metricsPeers": (
        "networkPolicy.enabled=true",
        [{"namespaceSelector": {"matchLabels": {"is": "watching"}}}],
        "is: watching",
    ),
    "prometheusRule.labels": ("prometheusRule.enabled=true", {"see": "me"}, "see: me"),
    "dashboard.labels": ("dashboard.enabled=true", {"see": "me"}, "see: me"),
    "agent.nri.socketDirectory": ("agent.nri.enabled=true", "/data/nri", "path: /data/nri,"),
    "agent.nri.timeoutMilliseconds": ("agent.nri.enabled=true", 77, 'TIMEOUT_MS, value: "77"'),
    "metrics.tls.clientCASecretName": ('metrics.tls.secretName="a"', "odd", "name: odd"),
    "podMonitor.tlsConfig": (
        'podMonitor.enabled=true,metrics.tls.secretName="a"',
        {"serverName": "odd"},
        "serverName: odd",
    ),
    "podMonitor.labels": ("podMonitor.enabled=true", {"see": "me"}, "see: me"),
    "podMonitor.interval": ("podMonitor.enabled=true", "77s", "interval: 77s"),
}


@pytest.mark.parametrize("key", TOGGLES)
def test_every_value_has_its_effect(chart: Any, key: str) -> None:
    value, expected = TOGGLES[key]
    before, after = chart.template(), chart.template(f"{key}={json.dumps(value)}")
    assert after.returncode == 0, after.stderr
    if expected is None:
        assert len(after.stdout) < len(before.stdout)
    else:
        assert expected not in before.stdout
        assert expected in after.stdout
    assert all(yaml.safe_load_all(after.stdout))


@pytest.mark.parametrize("key", TOGETHER)
def test_values_that_need_another_have_their_effect(chart: Any, key: str) -> None:
    other, value, expected = TOGETHER[key]
    assert expected not in chart.template(other).stdout
    assert expected in chart.template(other, f"{key}={json.dumps(value)}").stdout


def test_no_value_is_untested(chart: Any) -> None:
    def leaves(node: Json, path: str = "") -> set[str]:
        found: set[str] = set()
        for key, value in node.items():
            name = f"{path}{key}"
            deeper = isinstance(value, dict) and value and name not in TOGGLES | TOGETHER
            found |= leaves(value, f"{name}.") if deeper else {name}
        return found

    values = yaml.safe_load((chart.folder / "values.yaml").read_text())
    assert leaves(values) == set(TOGGLES) | set(TOGETHER)


def test_a_cluster_that_does_not_name_nodes_in_tokens_is_refused(chart: Any) -> None:
    done = chart.template(kube="1.31.9")
    assert done.returncode != 0
    assert "requires kubeVersion: >=1.32.0-0" in done.stderr
    assert chart.template(kube="1.32.0-provider.1").returncode == 0


def test_notes_name_the_next_step_and_what_is_unsafe(chart: Any, cluster: Any) -> None:
    def notes(*settings: str) -> str:
        sets = [part for setting in settings for part in ("--set", setting)]
        where = ["--namespace", "memplace-system", "--dry-run=server"]
        done = cluster.helm("install", "memplace", chart.folder, *where, *sets)
        assert done.returncode == 0, done.stderr
        return str(done.stdout).partition("NOTES:")[2]

    by_default = notes()
    assert "pod-security.kubernetes.io/enforce=privileged" in by_default
    assert "helm test memplace --namespace memplace-system" in by_default
    assert "WARNING" not in by_default
    assert "agent.seccomp.type=Unconfined" in notes("agent.seccomp.type=Unconfined")
    assert "admissionPolicy.enabled=false" in notes("admissionPolicy.enabled=false")
    assert "uninstall.retire=false" in notes("uninstall.retire=false")
    assert "leaves placements" in by_default
    for word in ("deletePlacements", "argocd"):
        assert f"WARNING: uninstall.{word}=true" in notes(f"uninstall.{word}=true")


def test_the_readme_has_every_value_with_its_default_and_meaning(chart: Any) -> None:
    # python tests/support/chart_readme.py writes it.
    assert readme.written() == readme.table()
    documented = {value.path for value in readme.values()}
    assert documented == set(TOGGLES) | set(TOGETHER)


def test_two_operators_prefer_two_nodes_unless_told_otherwise(chart: Any) -> None:
    def affinity(*settings: str) -> Any:
        (found,) = [o for o in chart.render(*settings) if o["kind"] == "Deployment"]
        return found["spec"]["template"]["spec"].get("affinity"), found

    assert affinity()[0] is None
    two, deployment = affinity("operator.replicas=2")
    (term,) = two["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    selector = term["podAffinityTerm"]["labelSelector"]
    assert selector == deployment["spec"]["selector"]
    mine: Json = {"nodeAffinity": {}}
    assert affinity("operator.replicas=2", f"operator.affinity={json.dumps(mine)}")[0] == mine
