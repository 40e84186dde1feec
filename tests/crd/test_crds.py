# SPDX-License-Identifier: Apache-2.0
"""What the API server makes of our CRDs: examples, defaults, columns, explain, status."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from memplace import __version__
from memplace.api import v1alpha1 as v1
from memplace.api.conditions import MESSAGE_MAX, Condition, set_condition
from memplace.api.convert import to_builtins
from memplace.api.objects import (
    parse_cluster_placement,
    parse_node_memory,
    parse_placement,
    parse_tier,
)
from memplace.kinds import Capability, Mode, Pressure
from memplace.validation import problems
from memplace_agent.cluster import bounded
from memplace_operator import pressed

BASE = "/apis/memplace.dev/v1alpha1"
PLACEMENTS = f"{BASE}/namespaces/default/memoryplacements"
NODES = f"{BASE}/nodememories"
TIERS = f"{BASE}/memorytiers"
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
NOW = datetime(2026, 11, 24, 12, 30, 15, 123456, tzinfo=UTC)

Json = dict[str, Any]

PARSERS: dict[str, Callable[[Json], Any]] = {
    "ClusterMemoryPlacement": parse_cluster_placement,
    "MemoryPlacement": parse_placement,
    "MemoryTier": parse_tier,
}


def load(name: str) -> Json:
    (found,) = [path for path in EXAMPLES if path.stem == name]
    loaded: Json = yaml.safe_load(found.read_text())
    return loaded


def conditions(message: str = "") -> tuple[Condition, ...]:
    return set_condition(
        (), "Ready", status="True", reason="Placed", message=message, generation=1, now=NOW
    )


@pytest.fixture
def placed(api: Any) -> Any:
    created = api.call("POST", PLACEMENTS, load("redis-on-cxl"), fieldValidation="Strict")
    assert created.ok, created.message
    yield created.body
    api.call("DELETE", f"{PLACEMENTS}/redis-on-cxl")


@pytest.fixture
def node(api: Any) -> Any:
    manifest = {"apiVersion": "memplace.dev/v1alpha1", "kind": "NodeMemory"}
    created = api.call("POST", NODES, manifest | {"metadata": {"name": "worker-1"}})
    assert created.ok, created.message
    yield created.body
    api.call("DELETE", f"{NODES}/worker-1")


def test_there_is_an_example_of_each_mode() -> None:
    specs = [yaml.safe_load(path.read_text())["spec"] for path in EXAMPLES]
    modes = {rule["policy"]["mode"] for spec in specs for rule in spec.get("rules", [])}
    assert modes == {mode.value for mode in Mode}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_apply_in_both_ways_and_make_sense(api: Any, path: Path) -> None:
    for how in (("apply",), ("apply", "--server-side")):
        applied = api.kubectl(*how, "--dry-run=server", "-o", "yaml", "-f", str(path))
        assert applied.returncode == 0, applied.stderr
        assert "Warning" not in applied.stderr
    obj = yaml.safe_load(applied.stdout)
    if obj["kind"] == "MemoryTier":
        assert parse_tier(obj).spec.numa_nodes
    else:
        assert problems(PARSERS[obj["kind"]](obj).spec) == ()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_spec_rendered_by_the_core_is_the_manifest(path: Path) -> None:
    obj = yaml.safe_load(path.read_text())
    meta = {"name": "x", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    parsed = PARSERS[obj["kind"]](obj | {"metadata": meta})
    assert to_builtins(parsed.spec) == obj["spec"]


def test_a_node_is_active_by_default(node: Json) -> None:
    assert node["spec"] == {"agent": "Active"}
    assert parse_node_memory(node).spec.agent is v1.AgentMode.ACTIVE


def test_nothing_of_a_placement_is_defaulted(placed: Json) -> None:
    assert placed["spec"] == load("redis-on-cxl")["spec"]


def test_unknown_agent_modes_are_refused(api: Any, node: Json) -> None:
    answer = api.call("PATCH", f"{NODES}/worker-1", {"spec": {"agent": "Off"}})
    assert 'supported values: "Active", "Retired"' in answer.message


def test_spec_and_status_are_written_apart(api: Any, placed: Json) -> None:
    url = f"{PLACEMENTS}/redis-on-cxl"
    ignored = api.call("PATCH", url, {"status": {"matchedPods": 5}})
    assert ignored.ok
    assert "status" not in ignored.body
    written = api.call("PATCH", f"{url}/status", {"spec": None, "status": {"matchedPods": 5}})
    assert written.ok
    assert written.body["status"] == {"matchedPods": 5}
    assert written.body["spec"] == placed["spec"]
    assert written.body["metadata"]["generation"] == placed["metadata"]["generation"]


def test_a_placements_status_comes_back_as_it_was_written(api: Any, placed: Json) -> None:
    rules = (
        v1.RuleStatus(
            name="values",
            regions=3,
            bytes=2**40,
            tiers=(v1.TierBytes(name="cxl", bytes=2**40), v1.TierBytes(name="other", bytes=0)),
            misplaced_bytes=7,
        ),
    )
    status = v1.PlacementStatus(
        conditions=conditions(),
        observed_generation=1,
        matched_pods=2,
        placed_pods=1,
        rules=rules,
        summary="1 of 2 pods placed; 1.0 TiB on cxl",
        pods=(
            v1.PodStatus(
                name="redis-0",
                node="worker-1",
                reason="TierFull",
                message="m" * 256,
                tiers=(v1.TierBytes(name="cxl", bytes=2**40),),
            ),
        ),
    )
    path = f"{PLACEMENTS}/redis-on-cxl/status"
    answer = api.call("PATCH", path, {"status": to_builtins(status)}, fieldValidation="Strict")
    assert answer.ok, answer.message
    assert parse_placement(answer.body).status == status


def full_node_status() -> v1.NodeMemoryStatus:
    rule = v1.RuleReport(
        name="values",
        regions=2,
        bytes=2**33,
        numa_nodes=(v1.NumaBytes(id=0, bytes=5), v1.NumaBytes(id=1, bytes=2**33 - 5)),
        misplaced_bytes=5,
        own_regions=1,
    )
    container = v1.ContainerReport(
        name="redis",
        container_id="containerd://" + "a" * 64,
        state=v1.ContainerState.MOVING,
        reason="Moving",
        message="m" * MESSAGE_MAX,
        sticky=False,
        memory_pressure=Pressure.HIGH,
        rules=(rule,),
    )
    pod = v1.PodReport(uid="p", namespace="cache", name="redis-0", containers=(container,))
    report = v1.PlacementReport(
        uid="u", namespace="cache", name="redis", observed_generation=3, pods=(pod,)
    )
    undoing = v1.PlacementReport(uid="v", namespace="cache", name="gone", reason="Undoing")
    return v1.NodeMemoryStatus(
        conditions=conditions("x" * (MESSAGE_MAX + 1)),
        heartbeat_time=NOW,
        agent_version=__version__,
        backend=v1.Backend(
            name=v1.BackendName.PROCESS_MBIND,
            reason="ProcessMbindAvailable",
            capabilities=tuple(Capability),
            sticky=True,
        ),
        numa_nodes=(
            v1.NumaNodeStatus(id=0, cpus="0-1", total_bytes=2**31, tier="dram"),
            v1.NumaNodeStatus(id=1, total_bytes=2**30),
        ),
        tiers=(v1.TierNumaNodes(name="dram", numa_nodes=(0,)),),
        placements=(report, undoing),
    )


def test_a_nodes_status_comes_back_as_it_was_written(api: Any, node: Json) -> None:
    status = full_node_status()
    body = {"status": to_builtins(status)}
    answer = api.call("PATCH", f"{NODES}/worker-1/status", body, fieldValidation="Strict")
    assert answer.ok, answer.message
    assert parse_node_memory(answer.body).status == status


def test_an_empty_status_is_legal_too(api: Any, node: Json, placed: Json) -> None:
    for url, status in (
        (f"{NODES}/worker-1/status", v1.NodeMemoryStatus()),
        (f"{PLACEMENTS}/redis-on-cxl/status", v1.PlacementStatus()),
    ):
        answer = api.call("PATCH", url, {"status": to_builtins(status)})
        assert answer.ok, answer.message


def test_the_states_of_the_core_are_those_of_the_crd(crds: dict[str, Json]) -> None:
    text = yaml.safe_dump(crds["NodeMemory"])
    for enum in (v1.ContainerState, v1.BackendName, v1.AgentMode, Capability, Pressure):
        assert re.search(
            r"enum:\n" + "".join(rf" *- '?{each.value}'?\n" for each in enum) + " *[a-z]", text
        )


def test_a_bounded_report_has_no_more_entries_than_the_crd_allows(crds: dict[str, Json]) -> None:
    version = crds["NodeMemory"]["spec"]["versions"][0]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    placements = status["properties"]["placements"]
    pods = placements["items"]["properties"]["pods"]
    containers = pods["items"]["properties"]["containers"]
    assert [found["maxItems"] for found in (placements, pods, containers)] == [
        bounded.PLACEMENTS_MAX,
        bounded.PODS_MAX,
        bounded.CONTAINERS_MAX,
    ]


def test_a_roll_out_remembers_no_more_pods_than_the_crd_allows(crds: dict[str, Json]) -> None:
    for kind in ("MemoryPlacement", "ClusterMemoryPlacement"):
        schema = crds[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        rollout = schema["properties"]["status"]["properties"]["rollout"]
        assert rollout["properties"]["pressedBefore"]["maxItems"] == pressed.MOST


def test_columns_of_a_placement(api: Any, placed: Json) -> None:
    status = v1.PlacementStatus(conditions=conditions("all is well"), matched_pods=2, placed_pods=1)
    api.call("PATCH", f"{PLACEMENTS}/redis-on-cxl/status", {"status": to_builtins(status)})
    header, row = api.kubectl("get", "mp").stdout.splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "MATCHED", "PLACED", "AGE"]
    assert row.split()[:-1] == ["redis-on-cxl", "True", "Placed", "2", "1"]
    wide = api.kubectl("get", "mp", "-o", "wide").stdout
    assert "BESTEFFORT" in wide
    assert "UNSUPPORTED" in wide
    assert "PRIORITY" in wide
    assert "all is well" in wide


def test_columns_of_a_node(api: Any, node: Json) -> None:
    supported = set_condition(
        (),
        "Supported",
        status="False",
        reason="SeccompFiltered",
        message="",
        generation=1,
        now=NOW,
    )
    status = v1.NodeMemoryStatus(
        conditions=supported,
        heartbeat_time=datetime.now(UTC),
        backend=v1.Backend(name=v1.BackendName.NONE, reason="SeccompFiltered"),
    )
    api.call("PATCH", f"{NODES}/worker-1/status", {"status": to_builtins(status)})
    header, row = api.kubectl("get", "nm").stdout.splitlines()
    assert header.split() == ["NAME", "SUPPORTED", "BACKEND", "HEARTBEAT", "AGE"]
    assert row.split()[:3] == ["worker-1", "False", "None"]


def test_columns_of_a_tier(api: Any) -> None:
    path = str(next(path for path in EXAMPLES if path.stem == "memory-tier"))
    assert api.kubectl("apply", "-f", path).returncode == 0
    condition = set_condition(
        (),
        "Ready",
        status="True",
        reason="InForce",
        message="",
        generation=1,
        now=NOW,
    )
    status = v1.TierStatus(conditions=condition, nodes=2, summary="64.0 GiB on 2 nodes")
    path_of_status = f"{TIERS}/cxl-far/status"
    assert api.call("PATCH", path_of_status, {"status": to_builtins(status)}).ok
    header, row = api.kubectl("get", "mt").stdout.splitlines()
    wide = api.kubectl("get", "mt", "-o", "wide").stdout
    assert api.kubectl("delete", "-f", path).returncode == 0
    assert header.split("  ")[0] == "NAME" and "NUMA NODES" in header
    assert row.split()[:4] == ["cxl-far", "[2,3]", "True", "InForce"]
    assert "64.0 GiB on 2 nodes" in row
    assert '["worker-1","worker-2"]' in wide


def test_the_category_lists_them_all(api: Any, placed: Json, node: Json) -> None:
    listed = api.kubectl("get", "memplace", "-A", "-o", "name").stdout.split()
    assert "memoryplacement.memplace.dev/redis-on-cxl" in listed
    assert "nodememory.memplace.dev/worker-1" in listed


@pytest.mark.parametrize(
    "kind", ["clustermemoryplacement", "memoryplacement", "memorytier", "nodememory"]
)
def test_explain_knows_every_field(api: Any, kind: str) -> None:
    spec = api.kubectl("explain", f"{kind}.spec")
    assert spec.returncode == 0, spec.stderr
    assert "<empty>" not in spec.stdout
    assert "<no description>" not in spec.stdout
    assert re.search(r"DESCRIPTION:\n +spec says|DESCRIPTION:\n +spec is", spec.stdout)


def test_explain_tells_the_default_of_existing_pages(api: Any) -> None:
    told = api.kubectl("explain", "mp.spec.rules.existingPages").stdout
    assert "Default: Move; for modes Default and Local" in " ".join(told.split())
    assert re.search(r"ENUM:\s+Move\s+Leave", told)


def test_wait_sees_the_condition(api: Any, placed: Json) -> None:
    status = to_builtins(v1.PlacementStatus(conditions=conditions()))
    api.call("PATCH", f"{PLACEMENTS}/redis-on-cxl/status", {"status": status})
    waited = api.kubectl("wait", "mp/redis-on-cxl", "--for=condition=Ready", "--timeout=5s")
    assert waited.returncode == 0, waited.stderr


def test_two_who_apply_tiers_do_not_merge_them(api: Any, tmp_path: Path) -> None:
    """Of a set, each would add its tiers to the other's, and nobody wrote what results."""

    def applied(manager: str, tiers: list[str], *options: str) -> Any:
        policy = {"mode": "PreferredMany", "tiers": tiers}
        rule = {"name": "heap", "regions": [{"type": "Heap"}], "policy": policy}
        manifest = {
            "apiVersion": "memplace.dev/v1alpha1",
            "kind": "MemoryPlacement",
            "metadata": {"name": "two", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "rules": [rule]},
        }
        file = tmp_path / f"{manager}.yaml"
        file.write_text(yaml.safe_dump(manifest))
        how = ("apply", "--server-side", f"--field-manager={manager}", *options, "-f", str(file))
        return api.kubectl(*how)

    def tiers() -> list[str]:
        (rule,) = api.call("GET", f"{PLACEMENTS}/two").body["spec"]["rules"]
        found: list[str] = rule["policy"]["tiers"]
        return found

    try:
        assert applied("one", ["cxl", "hbm"]).returncode == 0
        refused = applied("other", ["dram"])
        assert refused.returncode != 0 and "conflict" in refused.stderr
        assert tiers() == ["cxl", "hbm"]
        assert applied("other", ["dram"], "--force-conflicts").returncode == 0
        assert tiers() == ["dram"]
    finally:
        api.call("DELETE", f"{PLACEMENTS}/two")
