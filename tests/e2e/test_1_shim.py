# SPDX-License-Identifier: Apache-2.0
"""A container that is started anew, and `kubectl exec`, have the default from their shim.

The last test deletes the placement that the others look at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from memplace_lab.base.steps import wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.show import both_kernels, scenario, witness
from memplace_lab.show.scenario import CXL, DRAM, NAMESPACE

pytestmark = pytest.mark.timeout(600)
NAME = "born"
ON_CXL = "Mpol_future:\tprefer (many)=static:1 exec\n"
PLACEMENT = {
    "apiVersion": "memplace.dev/v1alpha1",
    "kind": "MemoryPlacement",
    "metadata": {"name": NAME, "namespace": NAMESPACE},
    "spec": {
        "selector": {"matchLabels": {"app": NAME}},
        "rules": [
            {
                "name": "heap",
                "regions": [{"type": "Heap"}],
                "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
            }
        ],
    },
}


@pytest.fixture(scope="module")
def born(cluster: Cluster) -> Iterator[scenario.Pod]:
    scenario.create_namespace(cluster)
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(PLACEMENT))
    pod = both_kernels.workload(NAME, worker="worker-1", app=NAME)
    cluster.kubectl("apply", "-f", "-", stdin=pod)
    wait = ("wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=240s", "pod", NAME)
    cluster.kubectl(*wait)
    yield scenario.find_pod(cluster, NAME)
    cluster.kubectl("delete", "-n", NAMESPACE, "pod", NAME)
    cluster.kubectl("delete", "-n", NAMESPACE, "mp", NAME, "--ignore-not-found")


def test_a_container_has_it_before_its_first_instruction(
    born: scenario.Pod, cluster: Cluster
) -> None:
    wait_for(
        "the workload has filled its regions",
        lambda: "ready" in cluster.kubectl("logs", "-n", NAMESPACE, NAME),
        timeout_s=60,
    )
    assert cluster.kubectl("logs", "-n", NAMESPACE, NAME).startswith(ON_CXL)
    observation = born.observe()
    nodes = observation.where(lambda m: m.label == "heap" or m.label.startswith("anon"))
    print("born:", nodes)
    assert nodes.get(CXL, 0) > 50 << 20
    # What an ELF image has beyond its file is mapped by the loader before the default counts.
    assert nodes.get(DRAM, 0) < 256 << 10, observation.mappings


def test_so_has_kubectl_exec(born: scenario.Pod) -> None:
    assert born.exec("/workload", "born") == ON_CXL


def test_the_shim_itself_stays_where_it_is(born: scenario.Pod, cluster: Cluster) -> None:
    found = json.loads(cluster.ssh(born.worker, f"python3 - {born.container_id}", stdin=SHIM))
    print("shim:", found)
    assert found["future"] == ON_CXL.strip()
    assert found["nodes"].get(str(CXL), 0) < found["nodes"][str(DRAM)]


def test_it_is_taken_back_with_the_placement(born: scenario.Pod, cluster: Cluster) -> None:
    cluster.kubectl("delete", "-n", NAMESPACE, "mp", NAME)
    wait_for(
        "an exec without a default",
        lambda: born.exec("/workload", "born") == "",
        timeout_s=60,
    )
    wait_for(
        "nothing of it in the container",
        lambda: witness_policies(born) <= {"default"},
        timeout_s=60,
    )


def witness_policies(pod: scenario.Pod) -> set[str]:
    observation: witness.Observation = pod.observe()
    return {mapping.policy for mapping in observation.mappings}


SHIM = r"""
import json, re, sys
from pathlib import Path
proc, (container,) = Path("/proc"), [each.rpartition("/")[2] for each in sys.argv[1:]]
def stat(pid):
    return int((proc / pid / "stat").read_text().rpartition(")")[2].split()[1])
pids = [p.name for p in proc.iterdir() if p.name.isdigit()]
inside = [pid for pid in pids if container in (proc / pid / "cgroup").read_text()]
shim = str(next(parent for parent in map(stat, inside) if str(parent) not in inside))
text = (proc / shim / "status").read_text()
nodes, anonymous = {}, {}
for line in (proc / shim / "numa_maps").read_text().splitlines():
    for node, pages in re.findall(r" N(\d+)=(\d+)", line):
        nodes[node] = nodes.get(node, 0) + int(pages) * 4096
        if "anon=" in line:
            anonymous[node] = anonymous.get(node, 0) + int(pages) * 4096
future = [line for line in text.splitlines() if line.startswith("Mpol_future")]
json.dump({"comm": (proc / shim / "comm").read_text().strip(), "future": "".join(future),
           "nodes": nodes, "anonymous": anonymous}, sys.stdout)
"""
