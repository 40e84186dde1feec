# SPDX-License-Identifier: Apache-2.0
"""What the chart makes of its values: identity, privileges, rules, and each value's effect."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Json = dict[str, Any]
One = Callable[[str, str], Json]
ROOT = Path(__file__).parents[2]
CRDS = sorted((ROOT / "crds").glob("*.yaml"))
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
# Everything the chart's accounts may do. A change here is a change of what a
# cluster's admin grants on installation.
READ = ["get", "list", "watch"]
PLACEMENTS_AND_TIERS = ["memoryplacements", "clustermemoryplacements", "memorytiers"]
RULES = {
    "operator": [
        ("memplace.dev", PLACEMENTS_AND_TIERS, ["list", "watch"]),
        ("memplace.dev", ["nodememories"], ["list", "watch", "delete"]),
        ("", ["nodes"], READ),
        (
            "memplace.dev",
            ["memoryplacements/status", "clustermemoryplacements/status", "memorytiers/status"],
            ["patch"],
        ),
        ("", ["pods", "namespaces"], ["list", "watch"]),
        ("events.k8s.io", ["events"], ["create", "patch"]),
        ("coordination.k8s.io", ["leases"], ["list"]),
        ("coordination.k8s.io", ["leases"], ["create"]),
        ("coordination.k8s.io", ["leases"], ["get", "update"]),
    ],
    "agent": [
        ("", ["pods", "namespaces"], ["list", "watch"]),
        ("memplace.dev", PLACEMENTS_AND_TIERS, ["list", "watch"]),
        ("", ["nodes"], ["list", "watch"]),
        ("memplace.dev", ["nodememories"], [*READ, "create"]),
        ("memplace.dev", ["nodememories/status"], ["patch"]),
        ("coordination.k8s.io", ["leases"], ["create", "patch"]),
    ],
    "retire": [
        ("memplace.dev", ["nodememories"], ["list", "patch", "deletecollection"]),
        ("coordination.k8s.io", ["leases"], ["list"]),
        ("apps", ["daemonsets"], ["get", "delete"]),
    ],
    "selftest": [
        ("memplace.dev", ["nodememories"], ["list"]),
        ("coordination.k8s.io", ["leases"], ["list"]),
    ],
    "view": [("memplace.dev", [*PLACEMENTS_AND_TIERS, "nodememories"], READ)],
    # Bound to nobody.
    "bind": [("memplace.dev", ["memoryplacements"], ["bind"])],
    "use-tiers": [("memplace.dev", ["memorytiers"], ["use"])],
    "edit": [
        (
            "memplace.dev",
            ["memoryplacements"],
            ["create", "delete", "deletecollection", "patch", "update"],
        )
    ],
}


def pod_spec(found: Json) -> Json:
    spec: Json = found["spec"]
    return spec if found["kind"] == "Pod" else spec["template"]["spec"]


def with_pods(objects: list[Json]) -> list[Json]:
    return [o for o in objects if o["kind"] in {"Deployment", "DaemonSet", "Job", "Pod"}]


def test_helm_finds_nothing_to_complain_about(chart: Any) -> None:
    done = chart.run("lint", "--strict", chart.folder)
    assert done.returncode == 0, done.stdout
    for level in ("[INFO]", "[WARNING]", "[ERROR]"):
        assert level not in done.stdout


def test_the_accounts_may_do_exactly_this(objects: list[Json]) -> None:
    found: dict[str, list[tuple[str, list[str], list[str]]]] = {}
    for role in sorted(objects, key=lambda o: o["kind"] == "Role"):
        if role["kind"] in {"Role", "ClusterRole"}:
            name = role["metadata"]["name"].removeprefix("memplace-")
            found.setdefault(name, []).extend(
                (*rule["apiGroups"], rule["resources"], rule["verbs"]) for rule in role["rules"]
            )
    assert found == RULES


def test_leases_are_those_of_the_own_namespace_only(objects: list[Json]) -> None:
    roles = [o for o in objects if o["kind"] in {"Role", "ClusterRole"} and "leases" in str(o)]
    assert [o["kind"] for o in roles] == ["Role"] * 4
    leases = [rule for role in roles for rule in role["rules"] if rule["resources"] == ["leases"]]
    named = [rule for rule in leases if "resourceNames" in rule]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in named] == [
        (["memplace-operator"], ["get", "update"])
    ]


def test_no_rule_has_a_wildcard_or_more_than_the_snapshot_shows(objects: list[Json]) -> None:
    for role in (o for o in objects if o["kind"].endswith("Role")):
        for rule in role["rules"]:
            assert set(rule) - {"resourceNames"} == {"apiGroups", "resources", "verbs"}
            assert len(rule["apiGroups"]) == 1
            assert "*" not in str(rule)


def test_each_role_is_bound_to_the_account_of_its_name_only(objects: list[Json]) -> None:
    bindings = [o for o in objects if o["kind"].endswith("Binding") and "subjects" in o]
    assert {b["metadata"]["name"] for b in bindings} == {
        f"memplace-{name}" for name in ("operator", "agent", "retire", "selftest")
    }
    for binding in bindings:
        name = binding["metadata"]["name"]
        subject = {"kind": "ServiceAccount", "name": name, "namespace": "memplace-system"}
        assert binding["subjects"] == [subject]
        kind = binding["kind"].removesuffix("Binding")
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (kind, name)


def test_everything_but_the_agent_is_restricted(objects: list[Json]) -> None:
    others = [o for o in with_pods(objects) if o["kind"] != "DaemonSet"]
    assert len(others) == 3
    for spec in map(pod_spec, others):
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert [c["securityContext"] for c in spec["containers"]] == [RESTRICTED]
        assert not {"hostPID", "hostNetwork", "hostIPC", "volumes"} & set(spec)


def test_the_agent_has_two_capabilities_and_its_own_profile(one: One) -> None:
    spec = pod_spec(one("DaemonSet", "agent"))
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "runAsUser": 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_NICE", "SYS_PTRACE"]},
        "seccompProfile": {"type": "Localhost", "localhostProfile": "memplace/agent.json"},
        # tests/apparmor has the reason.
        "appArmorProfile": {"type": "Unconfined"},
    }
    assert (spec["hostPID"], spec["hostNetwork"]) == (True, False)
    assert "hostIPC" not in spec


def test_the_profile_is_delivered_by_root_without_capabilities(one: One) -> None:
    spec = pod_spec(one("DaemonSet", "agent"))
    (init,) = spec["initContainers"]
    assert init["securityContext"] == {
        **RESTRICTED,
        "runAsUser": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert init["args"] == ["install-seccomp", "/host/seccomp"]
    assert init["image"] == spec["containers"][0]["image"]
    assert init["volumeMounts"] == [{"name": "seccomp", "mountPath": "/host/seccomp"}]


def test_the_agent_sees_of_the_host_only_this(one: One) -> None:
    spec = pod_spec(one("DaemonSet", "agent"))
    assert {v["name"]: v["hostPath"]["path"] for v in spec["volumes"]} == {
        "journal": "/run/memplace",
        "cgroup": "/sys/fs/cgroup",
        "seccomp": "/var/lib/kubelet/seccomp/memplace",
    }
    mounts = {m["name"]: m for m in spec["containers"][0]["volumeMounts"]}
    assert mounts["cgroup"]["readOnly"] is True
    assert {name for name, mount in mounts.items() if not mount.get("readOnly")} == {"journal"}


def test_the_runtimes_socket_is_there_only_when_asked_for(chart: Any) -> None:
    def agents(*settings: str) -> Json:
        (found,) = [o for o in chart.render(*settings) if o["kind"] == "DaemonSet"]
        return pod_spec(found)

    assert "nri" not in str(agents()).lower()
    spec = agents("agent.nri.enabled=true")
    (volume,) = [v for v in spec["volumes"] if v["name"] == "nri"]
    assert volume["hostPath"] == {"path": "/var/run/nri", "type": "DirectoryOrCreate"}
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "nri"]
    assert mount == {"name": "nri", "mountPath": "/host/run/nri", "readOnly": True}
    assert "nri" not in str(spec["initContainers"]).lower()


def test_the_agent_is_told_what_the_contract_names(one: One) -> None:
    (container,) = pod_spec(one("DaemonSet", "agent"))["containers"]
    env = {e["name"]: e.get("value") for e in container["env"]}
    assert env == {
        "NODE_NAME": None,
        "POD_UID": None,
        "MEMPLACE_JOURNAL_DIR": "/run/memplace",
        "MEMPLACE_CGROUP_ROOT": "/host/sys/fs/cgroup",
        "MEMPLACE_SECCOMP_DIR": "/var/lib/kubelet/seccomp/memplace",
        "MEMPLACE_SYSFS": "/sys",
        "MEMPLACE_PROC": "/proc",
        "MEMPLACE_AUDIT_S": "60",
        "MEMPLACE_MOVE_BANDWIDTH": "256Mi",
        "MEMPLACE_HTTP_PORT": "8080",
        "MEMPLACE_EXPLAIN_PORT": "8081",
        "MEMPLACE_SHIM_DEFAULT": "true",
        "MEMPLACE_LOG_LEVEL": "info",
    }


def test_every_container_has_requests_and_a_memory_limit_but_no_cpu_limit(
    objects: list[Json],
) -> None:
    for spec in map(pod_spec, with_pods(objects)):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert set(container["resources"]["limits"]) == {"memory"}


def test_an_operator_is_there_before_the_last_one_goes_and_agents_everywhere(one: One) -> None:
    operator, agent = one("Deployment", "operator")["spec"], one("DaemonSet", "agent")["spec"]
    assert operator["replicas"] == 1
    assert operator["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    assert agent["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": "10%"}
    assert agent["template"]["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_every_object_says_whose_it_is(objects: list[Json]) -> None:
    for found in (o for o in objects if o["kind"] != "CustomResourceDefinition"):
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "memplace"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_selectors_meet_the_pods_they_are_for_and_no_others(objects: list[Json]) -> None:
    labels = {
        o["metadata"]["name"]: (o["spec"]["template"] if o["kind"] != "Pod" else o)["metadata"][
            "labels"
        ].items()
        for o in with_pods(objects)
    }
    for found in (o for o in objects if o["kind"] in {"Deployment", "DaemonSet", "Service"}):
        selector = found["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        met = {name for name, of_pod in labels.items() if selector.items() <= of_pod}
        assert met == {found["metadata"]["name"]}


def test_who_deletes_daemonsets_deletes_the_agents_only(objects: list[Json]) -> None:
    rules = [rule for o in objects if o["kind"].endswith("Role") for rule in o["rules"]]
    (found,) = [rule for rule in rules if "daemonsets" in rule["resources"]]
    assert found["resourceNames"] == ["memplace-agent"]


def test_deleting_placements_takes_a_right_that_nobody_has_by_default(chart: Any) -> None:
    def rights(*settings: str) -> set[str]:
        roles = [o for o in chart.render(*settings) if o["metadata"]["name"] == "memplace-retire"]
        rules = [rule for o in roles for rule in o.get("rules", ())]
        return {r for rule in rules if "list" not in rule["verbs"][1:] for r in rule["resources"]}

    asked = ["uninstall.deletePlacements=true"]
    assert rights(*asked) - rights() == set(PLACEMENTS_AND_TIERS)
    assert rights(*asked, "crds.keep=false") - rights(*asked) == {"customresourcedefinitions"}


def test_a_chart_that_changes_in_nothing_else_restarts_nobody(chart: Any, tmp_path: Path) -> None:
    newer = shutil.copytree(chart.folder, tmp_path / "memplace")
    text = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(re.sub("^version: .*", "version: 98.76.54", text, flags=re.M))
    before, after = (
        {o["metadata"]["name"]: o for o in type(chart)(chart.helm, folder).render()}
        for folder in (chart.folder, newer)
    )
    assert before != after
    for name in ("memplace-agent", "memplace-operator"):
        assert before[name]["kind"] == after[name]["kind"] in {"DaemonSet", "Deployment"}
        assert before[name]["spec"]["template"] == after[name]["spec"]["template"]


def test_hooks_run_before_the_deletion_and_leave_nothing_but_a_log(objects: list[Json]) -> None:
    hooks = {
        (o["kind"], o["metadata"]["name"]): o["metadata"]["annotations"]
        for o in objects
        if "helm.sh/hook" in o["metadata"].get("annotations", {})
    }
    test_pod = hooks.pop(("Pod", "memplace-selftest"))
    assert test_pod["helm.sh/hook"] == "test"
    assert {name for _, name in hooks} == {"memplace-retire"}
    policy = "before-hook-creation,hook-succeeded"
    job = hooks["Job", "memplace-retire"]
    assert job["helm.sh/hook-output-log-policy"] == "hook-failed"
    for hook in hooks.values():
        assert hook["helm.sh/hook"] == "pre-delete"
        assert hook["helm.sh/hook-delete-policy"] == policy
    weights = {kind: int(a["helm.sh/hook-weight"]) for kind, a in hooks.items()}
    last = ("Job", "memplace-retire")
    assert all(weights[last] > weight for kind, weight in weights.items() if kind != last)


def test_for_argo_cd_the_job_is_the_only_hook_of_an_uninstall(chart: Any) -> None:
    # Argo CD does not wait for a Job that is one hook of several: tests/gitops has it.
    found = chart.render("uninstall.argocd=true")
    hooks = [o for o in found if "pre-delete" in str(o["metadata"].get("annotations"))]
    assert [o["kind"] for o in hooks] == ["Job"]
    names = {(o["kind"], o["metadata"]["name"]) for o in found}
    barrier = {("ConfigMap", "memplace-retire")}
    assert names - {(o["kind"], o["metadata"]["name"]) for o in chart.render()} == barrier


def test_a_retirement_ends_before_helm_loses_patience(one: One) -> None:
    job = one("Job", "retire")["spec"]
    assert job["backoffLimit"] == 0
    # The Job's end takes the pod's log along: the program has to end well before, and after it
    # the agents, whose image may have to be pulled first.
    assert "--timeout=200" in pod_spec({"kind": "Job", "spec": job})["containers"][0]["args"]
    assert 200 + 80 < job["activeDeadlineSeconds"] < 300


def test_every_pod_has_a_network_policy_and_what_it_needs(chart: Any) -> None:
    found = chart.render("networkPolicy.enabled=true")
    policies = {
        tuple(sorted(o["spec"]["podSelector"]["matchLabels"].items())): o["spec"]
        for o in found
        if o["kind"] == "NetworkPolicy"
    }
    for each in with_pods(found):
        meta = each["metadata"] if each["kind"] == "Pod" else each["spec"]["template"]["metadata"]
        (policy,) = [p for labels, p in policies.items() if set(labels) <= meta["labels"].items()]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert {"port": 6443, "protocol": "TCP"} in policy["egress"][0]["ports"]
        asks = each["metadata"]["name"] == "memplace-selftest"
        assert len(policy["egress"]) == (2 if asks else 1)
    assert len(policies) == 4


@pytest.mark.parametrize("crd", CRDS, ids=lambda path: path.stem)
def test_the_charts_crds_are_the_projects(crd: Path, chart: Any) -> None:
    assert (chart.folder / "files" / "crds" / crd.name).read_bytes() == crd.read_bytes()


def test_the_crds_reach_the_cluster_as_they_are(chart: Any, objects: list[Json]) -> None:
    files = {path.name for path in (chart.folder / "files" / "crds").iterdir()}
    assert files == {path.name for path in CRDS} and len(CRDS) == 4
    rendered = [o for o in objects if o["kind"] == "CustomResourceDefinition"]
    keep = {
        "helm.sh/resource-policy": "keep",
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    }
    for crd in rendered:
        assert crd["metadata"].pop("annotations") == keep
    assert sorted(rendered, key=str) == sorted(
        (yaml.safe_load(path.read_text()) for path in CRDS), key=str
    )


def test_the_selftest_finds_the_operator_without_a_name_service(one: One) -> None:
    pod = one("Pod", "selftest")["spec"]
    env = {e["name"]: e["value"] for e in pod["containers"][0]["env"]}
    assert env["MEMPLACE_OPERATOR_URL"] == "http://$(MEMPLACE_OPERATOR_SERVICE_HOST):8080"
    assert pod["enableServiceLinks"] is True
    assert one("Service", "operator")["spec"]["ports"][0]["port"] == 8080
