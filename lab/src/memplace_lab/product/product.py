# SPDX-License-Identifier: Apache-2.0
"""memplace itself in the lab: its images into the registry, its chart into the cluster."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from memplace_lab.base import store
from memplace_lab.base.steps import run, step
from memplace_lab.cluster import cluster as clusters
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.machines.network import REGISTRY
from memplace_lab.product import images

NAMESPACE = "memplace-system"
CHART = store.REPO / "charts" / "memplace"
WORKLOADS = store.REPO / "lab" / "manifests" / "workloads.yaml"


@functools.cache
def build_images() -> Mapping[str, str]:
    """Build all images and return ``name:tag`` in the registry -> name in the store.

    The tag is the key of what the image is made of: a name stands for one content.
    """
    shop = images.workshop()
    with step("container images"):
        product = {f"memplace/{t}": ref for t, ref in images.build_product_images(shop).items()}
        found = {**product, **images.build_workload_images(shop)}
        # What most of the product's images consists of, and what seldom changes.
        found["lab/base"] = images.ensure_base_image(shop)
    named = {f"{name}:{ref.rpartition(':')[2]}": ref for name, ref in found.items()}
    # containerd's configuration names the sandbox image, so its tag is fixed.
    return {**named, "lab/pause:1": found["lab/pause"]}


def prepull() -> list[str]:
    """Build all images; return those that a worker has before the product comes."""
    return [name for name in build_images() if not name.startswith("memplace/")]


def image(name: str) -> str:
    """Return ``HOST:PORT/name:tag`` of an image, built if need be, by its name without a tag."""
    found = next(full for full in build_images() if full.rpartition(":")[0] == name)
    return f"{REGISTRY}/{found}"


def publish(cluster: Cluster) -> None:
    """Push every image to the registry of a cluster."""
    with step("images into the registry"):
        for name, reference in build_images().items():
            push = ("-m", "memplace_lab", "images", "push", reference, REGISTRY, name)
            run(*cluster.network.inside(sys.executable, *push), timeout_s=300)


def install(cluster: Cluster, *more: str) -> None:
    """Install the chart and wait until operator and agents are ready."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    label = "pod-security.kubernetes.io/enforce=privileged"
    cluster.kubectl("label", "namespace", NAMESPACE, label)
    release(cluster, *more)


def release(cluster: Cluster, *more: str) -> None:
    """Install the chart, or upgrade what there is, and wait until all of it is ready."""
    with step("helm upgrade --install memplace charts/memplace"):
        cluster.helm("upgrade", "--install", "memplace", str(CHART), "--namespace", NAMESPACE,
                     *values(), *more, "--wait", "--timeout", "5m")  # fmt: skip
        # With as many nodes as may be unavailable, Helm does not wait for agents at all.
        rollout = ("rollout", "status", "daemonset/memplace-agent", "--timeout=300s")
        cluster.kubectl("-n", NAMESPACE, *rollout, timeout_s=330)


@contextmanager
def running(topology: str) -> Iterator[Cluster]:
    """Give a cluster of a topology with memplace installed, and end it afterwards."""
    cluster = clusters.up(topology, prepull(), publish=publish)
    try:
        install(cluster)
        yield cluster
    finally:
        cluster.down()


def values() -> list[str]:
    """Return the settings of Helm with which the chart runs in the lab."""
    # All agents at once: there are two nodes, and an emulated one takes a minute for its own.
    settings = {"image.registry": REGISTRY, "agent.maxUnavailable": "100%"}
    for part in ("operator", "agent"):
        repository, _, tag = image(f"memplace/{part}").removeprefix(f"{REGISTRY}/").rpartition(":")
        settings |= {f"{part}.image.repository": repository, f"{part}.image.tag": tag}
    return [word for key, value in settings.items() for word in ("--set-string", f"{key}={value}")]


def workload_manifest() -> str:
    """Return the manifest of the pods to place, with the lab's images filled in."""
    return re.sub(r"IMAGE\(([a-z/]+)\)", lambda found: image(found[1]), WORKLOADS.read_text())
