# SPDX-License-Identifier: Apache-2.0
"""What the tests of roll-outs over two workers ask and do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memplace_lab.base.steps import wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.show import both_kernels, scenario
from memplace_lab.show.scenario import Pod

NAME = both_kernels.PLACEMENT
MP = ("mp", "-n", scenario.NAMESPACE, NAME)


@contextmanager
def pods_on_both(cluster: Cluster) -> Iterator[dict[str, Pod]]:
    """Have a pod on each worker; what is applied meanwhile goes with them."""
    yield both_kernels.start_pods(cluster)
    cluster.kubectl("delete", "--ignore-not-found", *MP)
    cluster.kubectl("delete", "pod", "-n", scenario.NAMESPACE, *both_kernels.PODS)


def apply_rollout(cluster: Cluster, *, pause_s: int, more: str = "") -> None:
    """Apply the placement of both, one node after the other; `more` of its rollout, as YAML."""
    step = f"spec:\n  rollout: {{maxNodes: 1, pauseSeconds: {pause_s}{more}}}\n"
    manifest = both_kernels.EXAMPLE.read_text().replace("spec:\n", step, 1)
    cluster.kubectl("apply", "-n", scenario.NAMESPACE, "-f", "-", stdin=manifest)


def set_pause(cluster: Cluster, pause_s: int) -> None:
    """Change the pause between two nodes."""
    pause = {"spec": {"rollout": {"pauseSeconds": pause_s}}}
    cluster.kubectl("patch", *MP, "--type=merge", "-p", json.dumps(pause))


def rollout(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = scenario.status(cluster, NAME).get("rollout") or {}
    return found


def on_tier(both: dict[str, Pod]) -> set[str]:
    return {
        name for name, pod in both.items() if scenario.on_tier(both_kernels.data(pod.observe()))
    }


def untouched(both: dict[str, Pod]) -> set[str]:
    return {
        name for name, pod in both.items() if scenario.CXL not in both_kernels.data(pod.observe())
    }


def wait_settled(cluster: Cluster, nodes: int) -> None:
    wait_for(
        f"{nodes} of 2 nodes released and settled",
        lambda: rollout(cluster).get("settledNodes") == nodes,
        timeout_s=120,
        hint=lambda: str(scenario.status(cluster, NAME)),
    )
