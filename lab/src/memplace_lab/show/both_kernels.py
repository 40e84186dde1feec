# SPDX-License-Identifier: Apache-2.0
"""``make demo TOPOLOGY=two``: one manifest on a kernel with process_mbind() and on Debian's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplace_lab.base import store
from memplace_lab.base.steps import LabError, elapsed, say, step, wait_for
from memplace_lab.cluster import cluster as clusters
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import scenario
from memplace_lab.show.figure import MIB
from memplace_lab.show.scenario import CXL, DRAM, Pod
from memplace_lab.show.witness import Observation

EXAMPLE = store.REPO / "examples" / "best-effort.yaml"
PLACEMENT = APP = "best-effort"
# By pod its worker; the second has the stock kernel.
PODS = {"on-memplace-kernel": "worker-1", "on-stock-kernel": "worker-2"}


@dataclass(frozen=True, slots=True)
class Fared:
    """What a node reports of a pod's container, and with which backend.

    Attributes:
        backend: Name of the node's backend.
        state: The container's.
        sticky: Whether pages to come follow.
    """

    backend: str
    state: str
    sticky: bool


def workload(name: str, *, worker: str, app: str) -> str:
    """Return the manifest of one more workload pod."""
    documents = product.workload_manifest().split("\n---\n")
    found = next(d for d in documents if "name: workload\n" in d)
    return (
        found.replace("  name: workload\n", f"  name: {name}\n", 1)
        .replace("labels: {app: workload}", f"labels: {{app: {app}}}")
        .replace("nodeName: worker-1", f"nodeName: {worker}")
    )


def start_pods(cluster: Cluster) -> dict[str, Pod]:
    """Start a pod on each worker and wait until both have their memory."""
    with step(f"the same pod on each kernel: {', '.join(PODS)}"):
        namespace = product.workload_manifest().split("\n---\n")[0]
        manifests = [workload(name, worker=on, app=APP) for name, on in PODS.items()]
        cluster.kubectl("apply", "-f", "-", stdin="\n---\n".join([namespace, *manifests]))
        wait = ("wait", "-n", scenario.NAMESPACE, "--for=condition=Ready", "--timeout=240s", "pod")
        cluster.kubectl(*wait, *PODS)
        wait_for("both have filled their regions", lambda: _are_filled(cluster), timeout_s=60)
    return {name: scenario.find_pod(cluster, name) for name in PODS}


def _are_filled(cluster: Cluster) -> bool:
    logs = (cluster.kubectl("logs", "-n", scenario.NAMESPACE, name) for name in PODS)
    return all("ready" in log for log in logs)


def apply_example(cluster: Cluster) -> None:
    """Apply the placement of both."""
    cluster.kubectl("apply", "-n", scenario.NAMESPACE, "-f", str(EXAMPLE))


def fared(cluster: Cluster) -> dict[str, Fared]:
    """Return by pod what is reported of it under the placement."""
    found: dict[str, Fared] = {}
    for node in cluster.get("nodememories")["items"]:
        status = node["status"]
        for placement in status.get("placements", []):
            for pod in placement.get("pods", []) if placement["name"] == PLACEMENT else []:
                (container,) = pod["containers"]
                found[pod["name"]] = Fared(
                    status["backend"]["name"], container["state"], container.get("sticky", True)
                )
    return found


def data(observation: Observation) -> dict[int, int]:
    """Return where the memory is in which the workload keeps data; not every kernel has names."""
    return observation.where(lambda m: m.label == "heap" or m.label.startswith("anon"))


def grow(pod: Pod) -> float:
    """Have the workload map 16 MiB; return the seconds until all it has is on the tier."""
    wanted = sum(data(pod.observe()).values()) + (16 << 20)
    pod.exec("/workload", "map")

    def is_there() -> bool:
        found = data(pod.observe())
        return scenario.on_tier(found) and sum(found.values()) >= wanted

    return wait_for("new memory on the tier", is_there, timeout_s=60)


def check(cluster: Cluster, pods: Mapping[str, Pod]) -> dict[str, Fared]:
    """Return how the pods fare when the placement is Ready.

    Raises:
        LabError: It is not as it has to be on each kernel, or bytes are not where it says.
    """
    found = fared(cluster)
    wanted = {
        "on-memplace-kernel": Fared("ProcessMbind", "Placed", sticky=True),
        "on-stock-kernel": Fared("MovePages", "PlacedBestEffort", sticky=False),
    }
    if found != wanted:
        raise LabError(f"reported is {found}, not {wanted}")
    for name, pod in pods.items():
        observation = pod.observe()
        if not scenario.on_tier(data(observation)):
            raise LabError(f"the memory of {name} is on {data(observation)}")
        if bool(scenario.placed_bytes(observation)) is not found[name].sticky:
            raise LabError(f"{name}: bytes with a policy are {scenario.placed_bytes(observation)}")
    return found


def demo() -> None:
    """Show one manifest on both kernels and leave the cluster running.

    Raises:
        LabError: Something is not as it has to be.
    """
    cluster = clusters.up("two", product.prepull(), publish=product.publish)
    product.install(cluster)
    pods = start_pods(cluster)
    before = {name: data(pod.observe()) for name, pod in pods.items()}
    with step(f"kubectl apply -f {EXAMPLE.relative_to(store.REPO)}; kubectl wait"):
        apply_example(cluster)
        scenario.wait_ready(cluster, PLACEMENT)
    found = check(cluster, pods)
    grown = {name: grow(pod) for name, pod in pods.items()}
    for name, pod in pods.items():
        how = found[name]
        after = data(pod.observe())
        print(
            f"\n{name} ({pod.worker}, Linux {_kernel(cluster, pod.worker)})\n"
            f"  backend {how.backend}, {how.state}, sticky: {str(how.sticky).lower()}\n"
            f"  data in MiB: before {_mib(before[name])}, after {_mib(after)}\n"
            f"  a region mapped afterwards is on the tier {grown[name]:.1f} s later"
        )
    print("\n" + cluster.kubectl("get", "mp", "-n", scenario.NAMESPACE, PLACEMENT, "-o", "wide"))
    print(cluster.kubectl("get", "nm"))
    say(f"done in {elapsed()}; the cluster is up: make lab-shell TOPOLOGY=two to look")


def _kernel(cluster: Cluster, worker: str) -> str:
    found: str = cluster.get("node", worker)["status"]["nodeInfo"]["kernelVersion"]
    return found


def _mib(nodes: Mapping[int, int]) -> str:
    return f"{nodes.get(DRAM, 0) // MIB} dram, {nodes.get(CXL, 0) // MIB} cxl"
