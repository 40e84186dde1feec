# SPDX-License-Identifier: Apache-2.0
"""Pause and resume, by who may and who may not; and pods as bars."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Memplace, Site
from tests.operator.conftest import result

pytestmark = pytest.mark.timeout(60)


def is_paused(site: Site, name: str) -> bool:
    return bool(site.get(name)["spec"].get("paused", False))


def test_a_placement_is_paused_and_goes_on(site: Site, memplace: Memplace) -> None:
    site.place("mp")
    paused = memplace("pause", "mp", "-n", site.namespace)
    assert (paused.code, is_paused(site, "mp")) == (0, True), paused.err
    assert f"placement {site.namespace}/mp paused: what is in place stays" in paused.flat
    again = memplace("pause", f"{site.namespace}/mp", "-o", "json").json()
    assert (again["paused"], again["changed"]) == (True, False)
    generation = site.get("mp")["metadata"]["generation"]
    resumed = memplace("resume", "mp/mp", "-n", site.namespace)
    assert (resumed.code, is_paused(site, "mp")) == (0, False), resumed.err
    assert "resumed: the work goes on" in resumed.flat
    assert site.get("mp")["metadata"]["generation"] == generation + 1


def test_nothing_else_of_the_spec_changes(site: Site, memplace: Memplace) -> None:
    spec = site.place("mp", priority=7, mode="DryRun")["spec"]
    memplace("pause", "mp", "-n", site.namespace)
    assert site.get("mp")["spec"] == spec | {"paused": True}


def test_one_that_is_not_there(site: Site, memplace: Memplace) -> None:
    ran = memplace("pause", "nobody", "-n", site.namespace)
    assert ran.code == 3
    assert f"there is no placement nobody in namespace {site.namespace}" in ran.err


def test_who_may_not_is_told_and_nothing_changes(site: Site, memplace: Memplace) -> None:
    site.place("mp")
    ran = memplace("pause", "mp", "-n", site.namespace, user="nobody")
    assert ran.code == 4 and "forbidden" in ran.err
    assert not is_paused(site, "mp")


def test_top_has_pods_with_bars(site: Site, memplace: Memplace) -> None:
    placement = site.place("mp")
    site.node_report(result(placement, site.run_pod("redis-0")))
    ran = memplace("top", "-n", site.namespace)
    assert ran.code == 0, ran.err
    assert f"{site.namespace}/redis-0 mp 65.0 MiB - " in ran.flat
    assert "CCC cxl" in ran.out and "OOO other" in ran.out
    assert all(len(line) <= 120 for line in ran.out.splitlines())
    (pod,) = memplace("top", "-n", site.namespace, "-o", "json").json()["pods"]
    assert (pod["pod"], pod["bytes"], pod["node"]) == ("redis-0", 65 << 20, site.node)
    assert {t["name"]: t["bytes"] for t in pod["tiers"]} == {"cxl": 64 << 20, "other": 1 << 20}
    empty = memplace("top", "-n", "kube-public")
    assert (empty.code, empty.flat.strip()) == (0, "no pod has memory under a placement")
