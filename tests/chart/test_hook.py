# SPDX-License-Identifier: Apache-2.0
"""The hook of an uninstall, with the arguments, the account and the rights that the chart gives it.

There are no nodes and no controllers: what its Job would run is run here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import yaml
from memplace_lab.product.apiserver import ApiServer, Ran

from tests.support.release.installing import NAMESPACE, Chart, Json, create
from tests.support.release.surviving import (
    AGENTS,
    BASE,
    PLACED,
    WHERE,
    apply,
    fill,
    survives,
)


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
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)


def test_rendered_manifests_retire_nobody(
    clean: ApiServer, no_selftest: Callable[[], list[Json]], tmp_path: Path
) -> None:
    rendered = no_selftest()
    apply(clean, rendered)
    fill(clean)
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
    made = create(release, *[o for o in hooks if o["kind"] != "Job"])
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


def report(release: ApiServer, *, retired: str) -> None:
    """Be the agent of n1."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    condition = {"type": "Retired", "status": retired, "reason": "Undoing", "message": ""}
    condition |= {"lastTransitionTime": now}
    status = {"status": {"conditions": [condition], "heartbeatTime": now}}
    assert release.call("PATCH", f"{BASE}/nodememories/n1/status", status).ok


def test_what_argo_waits_for_goes_last(release: ApiServer, chart: Chart, tmp_path: Path) -> None:
    rendered = chart.render("uninstall.argocd=true")
    # Of these Argo CD has made all but the Job before.
    hooks = [o for o in rendered if o["metadata"]["name"] == "memplace-retire"]
    (barrier,) = [o for o in hooks if o["kind"] == "ConfigMap"]
    made = create(release, *[o for o in hooks if o["kind"] != "Job"])
    assert made.returncode == 0, made.stderr
    (job,) = [o for o in hooks if o["kind"] == "Job"]
    # Nobody collects garbage here: the agents would stay for the wait's whole time.
    job["spec"]["template"]["spec"]["containers"][0]["args"].remove("--delete=agents")
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{barrier['metadata']['name']}"
    report(release, retired="False")
    held = run_hook(release, hooks, tmp_path, "--timeout=3")
    assert held.returncode == 1
    assert "This is tried again until they retire" in held.stdout
    assert "helm" not in held.stdout
    assert release.call("GET", path).ok

    report(release, retired="True")
    done = run_hook(release, hooks, tmp_path, "--timeout=60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert release.call("GET", path).status == 404


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
