# SPDX-License-Identifier: Apache-2.0
"""``make demo``: from a bare machine to a running pod whose memory moved to CXL."""

from __future__ import annotations

from pathlib import Path

from memplace_lab.base import store
from memplace_lab.base.steps import LabError, elapsed, run, say, step, wait_for
from memplace_lab.cluster import cluster as clusters
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import figure, scenario, witness
from memplace_lab.show.figure import MIB, Panel, Story
from memplace_lab.show.life import NAME, Life
from memplace_lab.show.redisload import RedisLoad
from memplace_lab.show.scenario import CXL, DRAM, Pod
from memplace_lab.show.witness import Bytes

NODES = {DRAM: "dram", CXL: "cxl"}
OUT = store.REPO / "out"
SHARE = 0.99  # of Redis's anonymous memory; stacks stay
# Redis allocates a little while it answers, and less than 1 MiB is no reason to report.
TOLERANCE = 2 * MIB
TITLE = "Running pods moved to the CXL tier by kubectl apply, and a pod that is born there"
STORY = f"pod {NAME}, created after its placement; none of its pages was ever moved"


def demo() -> None:
    """Show first light on the topology ``hmat`` and leave the cluster running.

    Raises:
        LabError: Something is not as it has to be; nothing is shown as done that is not.
    """
    cluster = clusters.up("hmat", product.prepull(), publish=product.publish)
    product.install(cluster)
    scenario.create_pods(cluster)
    life = Life(cluster)
    life.create()
    pods = scenario.start_pods(cluster)
    redis = scenario.fill_redis(pods["redis"])
    checksum = redis.digest(scenario.REDIS_KEYS)
    before = observe(pods)
    life.live()
    redis.keep_asking()
    with step(f"kubectl apply -f {scenario.EXAMPLE.relative_to(store.REPO)}; kubectl wait"):
        scenario.apply_example(cluster)
        scenario.wait_ready(cluster)
    share = wait_share(pods["redis"])
    grown = scenario.grow(pods["workload"])
    after = observe(pods)
    life.live_again()
    answers = redis.answers()
    again = RedisLoad(cluster, pods["redis"].address)
    same = again.digest(scenario.REDIS_KEYS) == checksum
    facts = [
        f"{share:.1%} of Redis's anonymous memory is on the tier",
        f"same containers, {sum(p.restarts() for p in pods.values())} restarts; Redis answered "
        f"{answers.count} questions meanwhile, {answers.errors} errors, median "
        f"{answers.median_ms:.1f} ms, longest {answers.longest_ms:.0f} ms; "
        f"its data are {'intact' if same else 'NOT intact'}",
        f"on the tier too: a region that workload mapped afterwards, {grown:.1f} s later",
        *life.facts(),
    ]
    check_unharmed(cluster, pods, errors=answers.errors, same=same)
    facts += agreement(cluster, pods)
    story = Story(STORY, {name: born.nodes for name, born in life.rows.items()})
    show([Panel(f"pod {name}", before[name], after[name]) for name in pods], story, facts)
    print(cluster.kubectl("get", "mp,nm", "-A"))
    undo(cluster, pods)
    say(f"done in {elapsed()}; the cluster is up: make lab-shell to look, make lab-down to end it")


def observe(pods: dict[str, Pod]) -> dict[str, Bytes]:
    """Return the rows of the table for each pod."""
    return {name: pod.observe().rows() for name, pod in pods.items()}


def wait_share(pod: Pod) -> float:
    """Wait until SHARE of the pod's anonymous memory is on the tier; return how much is.

    Raises:
        LabError: It does not get there in a minute.
    """
    found = [0.0]

    def enough() -> bool:
        found[:] = [scenario.anonymous_share(pod.observe())]
        return found[0] >= SHARE

    wait_for("Redis's anonymous memory on the tier", enough, timeout_s=60, hint=lambda: str(found))
    return found[0]


def check_unharmed(cluster: Cluster, pods: dict[str, Pod], *, errors: int, same: bool) -> None:
    """Check that no container was restarted and no data were lost.

    Raises:
        LabError: A pod was hurt.
    """
    for pod in pods.values():
        now = scenario.find_pod(cluster, pod.name)
        if now.container_id != pod.container_id or pod.restarts():
            raise LabError(f"pod {pod.name} was restarted")
    if errors or not same:
        raise LabError(f"Redis gave {errors} errors, data intact: {same}")


def agreement(cluster: Cluster, pods: dict[str, Pod]) -> list[str]:
    """Hold the status against what a reader on the worker sees; return both as text.

    Raises:
        LabError: They still differ a minute after the last change.
    """
    lines: list[str] = []

    def agrees() -> bool:
        lines[:] = []
        told = scenario.claimed_tiers(scenario.status(cluster))
        seen = witness.add_up(scenario.placed_bytes(pod.observe()) for pod in pods.values())
        for node, tier in NODES.items():
            lines.append(
                f"bytes of the placed regions on {tier}: {seen.get(node, 0) / MIB:.1f} MiB in the "
                f"worker's numa_maps, {told.get(tier, 0) / MIB:.1f} MiB in the placement's status"
            )
        return all(abs(seen.get(n, 0) - told.get(t, 0)) <= TOLERANCE for n, t in NODES.items())

    wait_for(
        "the status agrees with the worker", agrees, timeout_s=60, hint=lambda: "\n".join(lines)
    )
    return lines


def show(panels: list[Panel], story: Story, facts: list[str]) -> None:
    """Print the picture and write it as SVG and PNG."""
    print("\n" + figure.text(panels, NODES, story=story) + "\n")
    print("\n".join(facts) + "\n")
    OUT.mkdir(exist_ok=True)
    drawing = OUT / "first-light.svg"
    drawing.write_text(figure.svg(panels, NODES, story=story, title=TITLE, footer=facts))
    picture = drawing.with_suffix(".png")
    run("rsvg-convert", "--output", picture, drawing)
    for path in (drawing, picture):
        say(f"the picture: {_shown(path)}")


def _shown(path: Path) -> Path:
    return path.relative_to(store.REPO)


def undo(cluster: Cluster, pods: dict[str, Pod]) -> None:
    """Delete the placement and wait until the regions have the policy back that they had."""
    with step(f"kubectl delete mp/{scenario.PLACEMENT}"):
        cluster.kubectl("delete", "-n", scenario.NAMESPACE, f"mp/{scenario.PLACEMENT}")
        seconds = scenario.wait_policies_back(pods)
    say(f"every region has the policy back that it had, {seconds:.1f} s after the delete")
