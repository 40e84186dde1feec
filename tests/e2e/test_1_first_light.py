# SPDX-License-Identifier: Apache-2.0
"""kubectl apply moves a running pod's memory to the CXL tier.

Needs the pods as they were started: `before` is what they were without any placement.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from memplace_lab.base.steps import LabError, wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.show import scenario, witness
from memplace_lab.show.redisload import RedisLoad
from memplace_lab.show.scenario import CXL, DRAM, Pod
from memplace_lab.show.witness import Vma

pytestmark = pytest.mark.timeout(600)
# Redis allocates a little while it answers, and less than 1 MiB is no reason to report.
TOLERANCE = 2 << 20


@pytest.fixture(scope="module")
def before(pods: dict[str, Pod], redis: RedisLoad) -> dict[str, witness.Observation]:
    return {name: pod.observe() for name, pod in pods.items()}


@pytest.fixture(scope="module")
def checksum(redis: RedisLoad) -> str:
    return redis.digest(scenario.REDIS_KEYS)


@pytest.fixture(scope="module")
def placed(cluster: Cluster, before: object, checksum: str, redis: RedisLoad) -> None:
    redis.keep_asking()
    scenario.apply_example(cluster)
    scenario.wait_ready(cluster)


def test_everything_starts_in_dram_without_a_policy(before: dict[str, witness.Observation]) -> None:
    for observation in before.values():
        assert observation.total().get(CXL, 0) < 1 << 20
        assert not scenario.placed_bytes(observation)


def test_all_memory_with_data_is_on_the_tier(placed: None, pods: dict[str, Pod]) -> None:
    workload = pods["workload"].observe()
    for label in ("heap", "anon:values"):
        assert scenario.on_tier(workload.labelled(label)), (label, workload.labelled(label))
        assert workload.policies(label) == {"prefer (many)=static:1"}
    wait_for(
        "Redis's memory on the tier",
        lambda: scenario.anonymous_share(pods["redis"].observe()) >= 0.99,
        timeout_s=60,
    )


def test_the_rest_is_untouched(
    placed: None, pods: dict[str, Pod], before: dict[str, witness.Observation]
) -> None:
    after = pods["workload"].observe()
    for label in ("anon:io-buffers", "file /data/mapped", "stack"):
        assert after.labelled(label).get(CXL, 0) == 0, label
        assert after.policies(label) == {"default"}
        assert after.labelled(label) == before["workload"].labelled(label)


def heap_of(pid: int) -> Callable[[Vma], bool]:
    return lambda mapping: mapping.pid == pid and mapping.label == "heap"


def test_pages_shared_with_a_forked_child_moved_too(placed: None, pods: dict[str, Pod]) -> None:
    observation = pods["workload"].observe()
    assert len(observation.pids) == 2
    for pid in observation.pids:
        assert scenario.on_tier(observation.where(heap_of(pid)))


def test_the_status_agrees_with_the_worker(
    placed: None, cluster: Cluster, pods: dict[str, Pod]
) -> None:
    seen: dict[int, int] = {}
    told: dict[str, int] = {}

    def agrees() -> bool:
        told.update(scenario.claimed_tiers(scenario.status(cluster)))
        seen.update(witness.add_up(scenario.placed_bytes(pod.observe()) for pod in pods.values()))
        pairs = ((told.get("cxl", 0), seen.get(CXL, 0)), (told.get("dram", 0), seen.get(DRAM, 0)))
        return all(abs(t - s) <= TOLERANCE for t, s in pairs)

    wait_for("agreement", agrees, timeout_s=45, hint=lambda: f"status {told}, worker {seen}")
    assert told["cxl"] > 100 << 20


def test_a_region_mapped_afterwards_follows(placed: None, pods: dict[str, Pod]) -> None:
    assert scenario.grow(pods["workload"]) < 30


def test_a_child_forked_afterwards_follows(placed: None, pods: dict[str, Pod]) -> None:
    assert scenario.fork(pods["workload"]) < 30


def test_nobody_was_hurt(
    placed: None, cluster: Cluster, pods: dict[str, Pod], redis: RedisLoad, checksum: str
) -> None:
    answers = redis.answers()
    assert answers.errors == 0
    assert answers.count > 50
    again = RedisLoad(cluster, pods["redis"].address)
    assert again.digest(scenario.REDIS_KEYS) == checksum
    for pod in pods.values():
        assert scenario.find_pod(cluster, pod.name).container_id == pod.container_id
        assert pod.restarts() == 0


def test_events_tell_of_transitions_once(placed: None, cluster: Cluster) -> None:
    events = cluster.get(
        "events",
        "-n",
        scenario.NAMESPACE,
        "--field-selector",
        f"involvedObject.name={scenario.PLACEMENT}",
    )["items"]
    placed_events = [e for e in events if e["reason"] == "Placed"]
    assert len(placed_events) == 1, [(e["reason"], e["message"]) for e in events]


def test_kubectl_get_shows_what_an_admin_wants(placed: None, cluster: Cluster) -> None:
    # What came meanwhile, a child say, makes it wait again.
    scenario.wait_ready(cluster)
    table = cluster.kubectl("get", "mp", "-n", scenario.NAMESPACE)
    header, row = table.splitlines()[:2]
    assert "READY" in header
    assert scenario.PLACEMENT in row
    assert "True" in row


def test_a_manifest_without_sense_is_refused_and_nothing_is_lost(
    placed: None, cluster: Cluster
) -> None:
    bad = scenario.EXAMPLE.read_text().replace("tiers: [cxl]", "tiers: []")
    with pytest.raises(LabError, match="tiers"):
        cluster.kubectl("apply", "-n", scenario.NAMESPACE, "-f", "-", stdin=bad)
    scenario.wait_ready(cluster, timeout_s=5)
