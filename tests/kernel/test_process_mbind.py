# SPDX-License-Identifier: Apache-2.0
"""process_mbind(2) on a machine with three NUMA nodes and HMAT."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import tap
from .conftest import Build
from memplace_lab.microvm import Machine, boot

SOURCES = (
    "process_mbind_test.c",
    "cases_abi.c",
    "cases_move.c",
    "cases_permission.c",
    "cases_cpuset.c",
)
CASES = (
    "sysfs_announcement",
    "errno_unknown_flag",
    "errno_usize_over_page",
    "errno_usize_too_small",
    "errno_args_fault",
    "errno_bad_pidfd",
    "empty_vector",
    "larger_struct",
    "bad_policies",
    "bad_vectors",
    "move_needs_nodes",
    "maxnode_counts_bits",
    "home_node",
    "self_bind_future_pages",
    "remote_bind_moves_anon",
    "remote_bind_moves_heap",
    "remote_preferred_many_moves",
    "remote_interleave_moves",
    "remote_bind_future_pages",
    "remote_default_resets",
    "policy_survives_fork",
    "move_leaves_shared_pages",
    "move_all_takes_shared_pages",
    "hole_efault",
    "partial_return",
    "vector_of_1024",
    "caller_untouched",
    "other_uid_eperm",
    "same_uid_without_cap_eperm",
    "self_without_cap",
    "self_move_all_without_cap_eperm",
    "dead_pidfd_esrch",
    "zombie_esrch",
    "target_clips_nodes",
    "target_excludes_all_nodes",
    "rebind_after_target_change",
    "caller_cpuset_no_escape",
    "caller_cpuset_nomove_allowed",
    "full_node_no_escape",
)

# node -> (size, "cpus" or "initiator", distance from node 0, latency in ns, bandwidth)
_NODES = (
    ("512M", "cpus=0-1", 10, 80, "100G"),
    ("256M", "initiator=0", 20, 250, "25G"),
    ("64M", "initiator=0", 30, 400, "10G"),
)


def _numa_args() -> list[str]:
    # QEMU wants all nodes first, then distances, then HMAT
    nodes: list[str] = []
    distances: list[str] = []
    hmat: list[str] = []
    for node, (size, role, distance, latency, bandwidth) in enumerate(_NODES):
        nodes += ["-object", f"memory-backend-memfd,id=m{node},size={size}"]
        nodes += ["-numa", f"node,nodeid={node},memdev=m{node},{role}"]
        if node:
            distances += ["-numa", f"dist,src=0,dst={node},val={distance}"]
        lb = f"hmat-lb,initiator=0,target={node},hierarchy=memory,data-type=access"
        hmat += ["-numa", f"{lb}-latency,latency={latency}"]
        hmat += ["-numa", f"{lb}-bandwidth,bandwidth={bandwidth}"]
    # Node 2 falls back to node 1 first: the way out that full_node_no_escape closes
    return [*nodes, *distances, "-numa", "dist,src=1,dst=2,val=15", *hmat]


MACHINE = Machine(args=("-m", "832M", "-smp", "2", *_numa_args()))


@pytest.fixture(scope="module")
def console(
    kernel: Path, build_init: Build, tmp_path_factory: pytest.TempPathFactory
) -> str:
    init = build_init("process_mbind_test", *SOURCES)
    return boot(kernel, init, MACHINE, tmp_path_factory.mktemp("vm"))


@pytest.mark.parametrize("case", CASES)
def test_case(console: str, case: str) -> None:
    result = tap.results(console).get(case)
    assert result is not None, f"{case} did not run; the console ends with:\n{console[-2000:]}"
    assert result.good, "\n".join(result.notes) or "no explanation"


def test_the_list_above_is_the_list_that_ran(console: str) -> None:
    assert tuple(tap.results(console)) == CASES


def test_the_kernel_did_not_complain(console: str) -> None:
    assert tap.splats(console) == []
