# SPDX-License-Identifier: Apache-2.0
"""Placements survive whatever happens to the release, on a real API server.

There are no nodes and no controllers: what a hook's Job would run is run here, with the
arguments, the account and the rights that the chart gives it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from memplace_lab.product.apiserver import ApiServer, Ran

from tests.chart.installing import NAMESPACE, Chart, create, everything, install, uninstall

Json = dict[str, Any]
BASE = "/apis/memplace.dev/v1alpha1"
KINDS = ("clustermemoryplacements", "memoryplacements", "memorytiers", "nodememories")
CRDS = [f"{kind}.memplace.dev" for kind in KINDS]
PLACEMENT: Json = {
    "apiVersion": "memplace.dev/v1alpha1",
    "kind": "MemoryPlacement",
    "metadata": {"name": "precious", "namespace": "default"},
    "spec": {
        "selector": {"matchLabels": {"app": "any"}},
        "rules": [
            {
                "name": "all",
                "regions": [{"type": "Heap"}],
                "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
            }
        ],
    },
}
DEFAULT: Json = PLACEMENT | {
    "kind": "ClusterMemoryPlacement",
    "metadata": {"name": "common"},
    "spec": PLACEMENT["spec"] | {"namespaceSelector": {}},
}
WHERE = ("--namespace", NAMESPACE)
AGENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/memplace-agent"
PLACED = f"{BASE}/namespaces/default/memoryplacements/precious"


@pytest.fixture
def clean(prepared: ApiServer) -> Iterator[ApiServer]:
    """Yield the cluster without the product; afterwards nothing of it is left."""
    before = everything(prepared)
    yield prepared
    prepared.helm("uninstall", "memplace", *WHERE, "--no-hooks", "--ignore-not-found")
    prepared.kubectl("delete", "crd", *CRDS, "--ignore-not-found")
    left = [(kind, name) for kind, name in everything(prepared) - before if kind != "APIService"]
    for kind, name in left:
        space, _, name = name.partition("/")
        prepared.kubectl("delete", kind, name, *(["--namespace", space] if space else []))


@pytest.fixture
def release(clean: ApiServer, chart: Chart) -> ApiServer:
    """Return the cluster with the chart installed, a placement and a node's report."""
    install(clean, chart)
    _fill(clean)
    return clean


def _fill(cluster: ApiServer) -> None:
    node = {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "NodeMemory",
        "metadata": {"name": "n1"},
    }
    made = create(cluster, PLACEMENT, DEFAULT, node)
    assert made.returncode == 0, made.stderr


def survives(cluster: ApiServer) -> bool:
    there = ("memoryplacement/precious", "clustermemoryplacement/common")
    return all(cluster.kubectl("get", name).returncode == 0 for name in there)


def test_a_release_without_definitions_takes_no_placement_along(
    release: ApiServer, chart: Chart
) -> None:
    done = release.helm("upgrade", "memplace", chart.folder, *WHERE, "--set", "crds.enabled=false")
    assert done.returncode == 0, done.stderr
    assert survives(release)


def test_not_even_one_that_is_to_delete_them_in_the_end(clean: ApiServer, chart: Chart) -> None:
    asked = ["--set", "crds.keep=false", "--set", "uninstall.deletePlacements=true"]
    install(clean, chart, *asked)
    _fill(clean)
    off = ["--set", "crds.enabled=false"]
    done = clean.helm("upgrade", "memplace", chart.folder, *WHERE, *asked, *off)
    assert done.returncode == 0, done.stderr
    uninstall(clean)
    assert survives(clean)


def test_an_uninstall_leaves_placements_and_a_new_release_takes_them_over(
    clean: ApiServer, chart: Chart
) -> None:
    before = everything(clean)
    install(clean, chart, "--set", "networkPolicy.enabled=true")
    during = everything(clean) - before
    assert ("Deployment", f"{NAMESPACE}/memplace-operator") in during and len(during) > 15
    _fill(clean)
    uninstall(clean)
    left = {(kind, name) for kind, name in everything(clean) - before if kind != "APIService"}
    # Without the hook the node's report stays, too; the agent of the next release goes on with it.
    assert left == {("CustomResourceDefinition", f"/{name}") for name in CRDS} | {
        ("ClusterMemoryPlacement", "/common"),
        ("MemoryPlacement", "default/precious"),
        ("NodeMemory", "/n1"),
    }
    install(clean, chart)
    assert survives(clean)


def test_a_hook_that_fails_keeps_its_job_and_deletes_nothing(release: ApiServer) -> None:
    done = release.helm("uninstall", "memplace", *WHERE, "--timeout", "2s")
    assert done.returncode != 0
    assert survives(release)
    assert release.kubectl("get", "job", "memplace-retire", *WHERE).returncode == 0
    # Its account and rights are gone, what was installed is not.
    assert release.kubectl("get", "clusterrole", "memplace-retire").returncode != 0
    assert release.kubectl("get", "daemonset", "memplace-agent", *WHERE).returncode == 0
    # As the hook's own words say: an upgrade is refused now, this is the way back.
    done = release.helm("rollback", "memplace", "1", *WHERE, "--no-hooks")
    assert done.returncode == 0, done.stderr
    assert "STATUS: deployed" in release.helm("status", "memplace", *WHERE).stdout


def run_hook(cluster: ApiServer, rendered: list[Json], work: Path, *more: str) -> Ran:
    """Run what the Job would, as the Job's account, in its namespace."""
    (job,) = [o for o in rendered if o["kind"] == "Job"]
    pod = job["spec"]["template"]["spec"]
    token = cluster.kubectl("create", "token", pod["serviceAccountName"], *WHERE).stdout.strip()
    config = yaml.safe_load(cluster.kubeconfig("admin").read_text())
    config["users"][0]["user"] = {"token": token}
    config["contexts"][0]["context"]["namespace"] = NAMESPACE
    (work / "config").write_text(yaml.safe_dump(config))
    env = os.environ | {"KUBECONFIG": str(work / "config")}
    command = [sys.executable, "-m", "memplace_operator", *pod["containers"][0]["args"], *more]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)


def apply(cluster: ApiServer, rendered: list[Json], *how: str) -> None:
    crds = [o for o in rendered if o["kind"] == "CustomResourceDefinition"]
    others = [_in_namespace(o) for o in rendered if o not in crds]
    for part in (crds, others):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": part})
        done = cluster.kubectl("apply", *how, "--filename=-", stdin=text)
        assert done.returncode == 0, done.stderr
        if part is crds:
            named = [f"crd/{name}" for name in CRDS]
            cluster.kubectl("wait", "--for=condition=Established", *named)


def _in_namespace(found: Json) -> Json:
    # As GitOps tools do; helm install has it from --namespace.
    kinds = {"ServiceAccount", "Service", "Deployment", "DaemonSet", "Job", "Pod", "Role"}
    if found["kind"] in kinds | {"RoleBinding", "NetworkPolicy", "PodDisruptionBudget"}:
        found["metadata"]["namespace"] = NAMESPACE
    return found


@pytest.fixture
def no_selftest(chart: Chart) -> Callable[[], list[Json]]:
    """Render what can be applied where no account is given a token, so no bare pods."""
    return lambda: chart.render("tests.enabled=false", "networkPolicy.enabled=true")


def test_rendered_manifests_retire_nobody(
    clean: ApiServer, no_selftest: Callable[[], list[Json]], tmp_path: Path
) -> None:
    rendered = no_selftest()
    apply(clean, rendered)
    _fill(clean)
    assert clean.kubectl("get", "job", "memplace-retire", *WHERE).returncode == 0
    done = run_hook(clean, rendered, tmp_path, "--timeout=3", "--delete=placements")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing done" in done.stdout
    assert survives(clean)
    node = clean.call("GET", f"{BASE}/nodememories/n1").body
    assert node["spec"] == {"agent": "Active"}


def bring_hooks(release: ApiServer, chart: Chart) -> list[Json]:
    """Create what the hook needs, the way Helm does: no other object is touched."""
    rendered = chart.render("uninstall.deletePlacements=true", "crds.keep=false")
    hooks = [o for o in rendered if "pre-delete" in str(o["metadata"].get("annotations"))]
    made = create(release, *[_in_namespace(o) for o in hooks if o["kind"] != "Job"])
    assert made.returncode == 0, made.stderr
    return hooks


def test_the_hook_of_a_release_has_the_rights_it_needs(
    release: ApiServer, chart: Chart, tmp_path: Path
) -> None:
    hooks = bring_hooks(release, chart)
    # Nobody collects garbage here, so it would stay for the wait's whole time.
    release.call("PATCH", AGENTS, {"metadata": {"finalizers": None}})
    before = release.call("GET", AGENTS).body["metadata"]["uid"]
    done = run_hook(release, hooks, tmp_path, "--timeout=60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trying again" not in done.stdout
    assert before and "deleted the CRDs" in done.stdout
    assert not survives(release)
    left = release.kubectl("get", "crd", "--output=name").stdout
    assert "memplace.dev" not in left


def test_the_hook_names_a_crd_that_a_finalizer_keeps(
    release: ApiServer, chart: Chart, tmp_path: Path
) -> None:
    hooks = bring_hooks(release, chart)
    (job,) = [o for o in hooks if o["kind"] == "Job"]
    # Nobody collects garbage here: the agents would stay for the wait's whole time.
    job["spec"]["template"]["spec"]["containers"][0]["args"].remove("--delete=agents")
    assert release.call("PATCH", PLACED, {"metadata": {"finalizers": ["example.com/x"]}}).ok
    try:
        done = run_hook(release, hooks, tmp_path, "--timeout=60")
    finally:
        release.call("PATCH", PLACED, {"metadata": {"finalizers": None}})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "still deletes memoryplacements.memplace.dev: see finalizers" in done.stdout
    assert "deleted the CRDs" not in done.stdout


def test_applied_twice_there_is_no_difference(
    clean: ApiServer, no_selftest: Callable[[], list[Json]]
) -> None:
    how = ["--server-side", "--field-manager=gitops"]
    apply(clean, no_selftest(), *how)
    first = _versions(clean)
    apply(clean, no_selftest(), *how)
    assert _versions(clean) == first
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": _namespaced(no_selftest())})
    diff = clean.kubectl("diff", *how, "--filename=-", stdin=text)
    assert (diff.returncode, diff.stdout) == (0, "")


def _namespaced(rendered: list[Json]) -> list[Json]:
    return [_in_namespace(found) for found in rendered]


def _versions(cluster: ApiServer) -> dict[str, str]:
    kinds = (
        "crd,serviceaccount,service,deployment,daemonset,job,clusterrole,clusterrolebinding,role,"
        "rolebinding,networkpolicy,validatingadmissionpolicy,validatingadmissionpolicybinding"
    )
    found = cluster.kubectl("get", kinds, "--all-namespaces", "--output=json")
    assert found.returncode == 0, found.stderr
    return {
        f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["resourceVersion"]
        for o in json.loads(found.stdout)["items"]
        if "memplace" in o["metadata"]["name"]
    }


@pytest.mark.parametrize("more", [[], ["--set", "crds.enabled=false"]], ids=["whole", "without"])
def test_a_second_release_is_refused(release: ApiServer, chart: Chart, more: list[str]) -> None:
    done = release.helm("install", "other", chart.folder, "--namespace", "default", *more)
    assert done.returncode != 0
    assert 'must equal "other"' in done.stderr and "memplace" in done.stderr
