# SPDX-License-Identifier: Apache-2.0
"""Pause, resume and undo, by who may and who may not; and pods as bars."""

from __future__ import annotations

import pytest

from tests.cli.site import Memplace, Site
from tests.support.cluster import result

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


def test_a_roll_out_that_is_held_goes_on(site: Site, memplace: Memplace) -> None:
    placement = site.place("mp", rollout={"maxNodes": "10%"})
    generation = placement["metadata"]["generation"]
    rollout = {"generation": generation, "change": "c", "nodes": 10, "releasedNodes": 3}
    said = "held, 3 of 10 nodes released: node a: TierFull: full"
    for state in ("Holding", "Rolling"):
        site.judged(site.get("mp"), ("Progressing", "False", "RolloutHeld", said))
        site.rolled("mp", rollout | {"state": state})
        shown = memplace("status", "-n", site.namespace)
        assert f"{site.namespace} mp Unknown Pending 1/2 {state} 3/10 cxl 1.0 GiB" in shown.flat
        assert f"placement {site.namespace}/mp: RolloutHeld" in shown.flat
        assert f"{said} -> Put right what the message names" in shown.flat
        resumed = memplace("resume", "mp", "-n", site.namespace)
        words = "whatever is wrong" if state == "Holding" else "the work goes on from"
        assert words in resumed.flat, resumed.err
        asked = {"maxNodes": "10%", "ignoreHoldOf": generation}
        assert site.get("mp")["spec"]["rollout"] == asked
    (mine,) = memplace("status", "-n", site.namespace, "-o", "json").json()["placements"]
    assert mine["rollout"] == {"state": "Rolling", "nodes": 10, "releasedNodes": 3}


def test_pause_leaves_a_hold_alone(site: Site, memplace: Memplace) -> None:
    placement = site.place("mp", rollout={"maxNodes": 1})
    site.judged(placement)
    site.rolled("mp", {"generation": 1, "change": "c", "state": "Holding"})
    memplace("pause", "mp", "-n", site.namespace)
    assert site.get("mp")["spec"]["rollout"] == {"maxNodes": 1}
    assert memplace("resume", "mp", "-n", site.namespace, "-o", "json").json()["ignoredHold"] == 1
    assert not is_paused(site, "mp")


def test_one_that_is_not_there(site: Site, memplace: Memplace) -> None:
    ran = memplace("pause", "nobody", "-n", site.namespace)
    assert ran.code == 3
    assert f"there is no MemoryPlacement nobody in namespace {site.namespace}" in ran.err


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
    drawn = memplace("top", "-n", site.namespace, "--svg", "-").out
    assert drawn.startswith("<svg ") and f"{site.namespace}/redis-0" in drawn
    empty = memplace("top", "-n", "kube-public")
    assert (empty.code, empty.flat.strip()) == (0, "no pod has memory under a placement")


def test_top_has_sums_for_who_may_not_read_nodes(site: Site, memplace: Memplace) -> None:
    placement = site.place("mp")
    site.node_report(result(placement, site.run_pod("redis-0")))
    site.judged(placement)
    site.may_read("tenant")
    ran = memplace("top", "-n", site.namespace, user="tenant")
    assert ran.code == 0, ran.err
    assert f"{site.namespace}: 2 pods mp 1.0 GiB - " in ran.flat
    assert "nodes and tiers: nodememories.memplace.dev is forbidden" in ran.flat
    (found,) = memplace("top", "-n", site.namespace, "-o", "json", user="tenant").json()["pods"]
    assert (found["pod"], found["pods"], found["tiers"]) == (
        "",
        2,
        [{"name": "cxl", "bytes": 1 << 30}],
    )
    assert memplace("top", "-n", site.namespace, user="nobody").code == 4


def mode(site: Site, name: str = "mp") -> str | None:
    found = site.get(name)["spec"].get("mode")
    return None if found is None else str(found)


def undoing(site: Site, *, state: str, generation: int = 0, reason: str = "") -> None:
    """Be an agent that says how a placement fares."""
    placement = site.get("mp")
    pod = site.api.call("GET", f"/api/v1/namespaces/{site.namespace}/pods/redis-0").body
    report = result(placement, pod, state=state, reason=reason, generation=generation)
    site.node_report(report)


def test_a_placement_is_undone_and_goes_on(site: Site, memplace: Memplace) -> None:
    spec = site.place("mp")["spec"]
    undone = memplace("undo", "mp", "-n", site.namespace)
    assert (undone.code, mode(site)) == (0, "DryRun"), undone.err
    assert "is being undone: what was set is given back; pages stay where they are" in undone.flat
    assert "kubectl memplace resume has it placed again" in undone.flat
    again = memplace("undo", "mp", "-n", site.namespace, "-o", "json").json()
    assert (again["changed"], again["waited"], again["done"]) == (False, False, False)
    resumed = memplace("resume", "mp", "-n", site.namespace)
    assert "resumed: the work goes on" in resumed.flat
    assert site.get("mp")["spec"] == spec


def test_a_paused_placement_is_undone_all_the_same(site: Site, memplace: Memplace) -> None:
    site.place("mp")
    memplace("pause", "mp", "-n", site.namespace)
    ran = memplace("undo", "mp", "-n", site.namespace)
    assert "mp was paused, and is not any more" in ran.flat
    assert (is_paused(site, "mp"), mode(site)) == (False, "DryRun")
    memplace("pause", "mp", "-n", site.namespace)
    memplace("resume", "mp", "-n", site.namespace)
    assert (is_paused(site, "mp"), mode(site)) == (False, None)


def test_a_dry_run_of_a_manifest_stays_one(site: Site, memplace: Memplace) -> None:
    site.place("mp", mode="DryRun", paused=True)
    ran = memplace("resume", "mp", "-n", site.namespace)
    assert (is_paused(site, "mp"), mode(site)) == (False, "DryRun")
    assert "it is a dry run, which its manifest asks for: set spec.mode to Enforce" in ran.flat
    # One that was undone, and whose manifest says so since.
    site.place("other")
    memplace("undo", "other", "-n", site.namespace)
    path = site.placement_path("other")
    for value in ("Enforce", "DryRun"):
        assert site.api.call("PATCH", path, {"spec": {"mode": value}}, fieldManager="git").ok
    memplace("resume", "other", "-n", site.namespace)
    assert mode(site, "other") == "DryRun"


def test_undo_waits_until_agents_have_given_all_back(site: Site, memplace: Memplace) -> None:
    site.place("mp")
    site.run_pod("redis-0")
    undoing(site, state="Placed")
    args = ("undo", "mp", "-n", site.namespace, "--wait", "--timeout", "1")
    early = memplace(*args)
    assert early.code == 1
    assert "waiting for what is given back, for at most 1 s" in early.err
    assert "mp is not undone yet: 1 thing left" in early.flat
    assert f"all of it on node {site.node}: Pending: its agent has not looked" in early.flat
    undoing(site, state="Pending", reason="Undoing")
    found = memplace(*args, "-o", "json").json()
    assert [each["container"] for each in found["left"]] == ["redis"]
    assert (found["waited"], found["done"], found["left"][0]["reason"]) == (True, False, "Undoing")
    undoing(site, state="DryRun")
    done = memplace(*args)
    assert (done.code, done.err) == (0, "")
    assert "is undone: no container of it is placed any more" in done.flat


def test_undo_waits_on_the_operator_s_word_for_who_may_not_read_nodes(
    site: Site, memplace: Memplace
) -> None:
    site.place("mp", mode="DryRun")
    site.may_read("tenant")
    args = ("undo", "mp", "-n", site.namespace, "--wait", "--timeout", "0")
    early = memplace(*args, user="tenant")
    assert early.code == 1, early.err
    assert "the operator has not judged the change yet" in early.flat
    site.judged(site.get("mp"), ("Ready", "False", "Pending", "redis-0 is looked at"))
    assert "Pending: redis-0 is looked at" in memplace(*args, user="tenant").flat
    done = ("Ready", "False", "DryRun", "mode DryRun: nothing is changed")
    before = site.get("mp")
    before["metadata"]["generation"] -= 1
    site.judged(before, done)
    assert memplace(*args, user="tenant").code == 1
    site.judged(site.get("mp"), done)
    assert memplace(*args, user="tenant").code == 0


def test_undo_of_one_that_is_not_there_and_by_who_may_not(site: Site, memplace: Memplace) -> None:
    assert memplace("undo", "nobody", "-n", site.namespace).code == 3
    site.place("mp")
    ran = memplace("undo", "mp", "-n", site.namespace, user="nobody")
    assert (ran.code, mode(site)) == (4, None)
