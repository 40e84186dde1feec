# SPDX-License-Identifier: Apache-2.0
"""Placements survive whatever happens to the release, on a real API server.

There are no nodes and no controllers.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from memplace_lab.product.apiserver import ApiServer

from tests.support.release.installing import NAMESPACE, Chart, Json, everything, install, uninstall
from tests.support.release.surviving import (
    CRDS,
    WHERE,
    apply,
    fill,
    installed,
    survives,
)


def test_a_release_without_definitions_takes_no_placement_along(
    release: ApiServer, chart: Chart
) -> None:
    done = release.helm("upgrade", "memplace", chart.folder, *WHERE, "--set", "crds.enabled=false")
    assert done.returncode == 0, done.stderr
    assert survives(release)


def test_not_even_one_that_is_to_delete_them_in_the_end(clean: ApiServer, chart: Chart) -> None:
    asked = ["--set", "crds.keep=false", "--set", "uninstall.deletePlacements=true"]
    install(clean, chart, *asked)
    fill(clean)
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
    fill(clean)
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


def test_applied_twice_there_is_no_difference(
    clean: ApiServer, no_selftest: Callable[[], list[Json]]
) -> None:
    how = ["--server-side", "--field-manager=gitops"]
    apply(clean, no_selftest(), *how)
    first = _versions(clean)
    apply(clean, no_selftest(), *how)
    assert _versions(clean) == first
    # Not in the namespace of the admin's context, which is another one.
    assert {m["namespace"] for m in installed(clean).values() if "namespace" in m} == {NAMESPACE}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": no_selftest()})
    diff = clean.kubectl("diff", *how, "--filename=-", stdin=text)
    assert (diff.returncode, diff.stdout) == (0, "")


def test_rendered_manifests_come_and_go_with_one_command_each(
    clean: ApiServer, chart: Chart
) -> None:
    # As docs/install.md has it; the Job in between is that of test_hook.
    found = chart.template("uninstall.retire=false", "tests.enabled=false")
    done = clean.kubectl("apply", "--server-side", "--filename=-", stdin=found.stdout)
    assert done.returncode == 0, done.stderr
    fill(clean)
    rest = chart.template("crds.enabled=false")
    gone = ["--ignore-not-found", "--filename=-"]
    done = clean.kubectl("delete", *gone, stdin=rest.stdout)
    assert done.returncode == 0, done.stderr
    assert set(installed(clean)) == {f"CustomResourceDefinition/{name}" for name in CRDS}
    assert survives(clean)


def _versions(cluster: ApiServer) -> dict[str, str]:
    return {name: meta["resourceVersion"] for name, meta in installed(cluster).items()}


@pytest.mark.parametrize("more", [[], ["--set", "crds.enabled=false"]], ids=["whole", "without"])
def test_a_second_release_is_refused(release: ApiServer, chart: Chart, more: list[str]) -> None:
    done = release.helm("install", "other", chart.folder, "--namespace", "default", *more)
    assert done.returncode != 0
    assert 'must equal "other"' in done.stderr and "memplace" in done.stderr
