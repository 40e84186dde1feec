# SPDX-License-Identifier: Apache-2.0
"""The series' own selftests, on machines with one, two, four and 32 nodes, and with odd ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine
from memplace_lab.machines.qemu import ONLINE_MOVABLE, Hardware, Node

from tests.kernel.running import Ran, Run

_TIMEOUT_S = 900.0


# Node 2 falls back to node 1 first: the way out that full_node_no_escape closes. QEMU wants to be
# told of all pairs, or of none.
_FALLBACK = dict.fromkeys(itertools.combinations(range(4), 2), 20) | {(1, 2): 15}


def _machine(*nodes: Node, distances: Mapping[tuple[int, int], int] | None = None) -> Machine:
    append = f"{ONLINE_MOVABLE} transparent_hugepage=madvise"
    hardware = Hardware(nodes, smp="2,sockets=2", distances=distances or {})
    return Machine(hardware, append=append, timeout_s=_TIMEOUT_S)


def _machines(large: int, medium: int, small: int, tiny: int) -> Mapping[str, Machine]:
    """The machines by name, from the sizes of their nodes in MiB.

    Args:
        large: Of the node with the first processor.
        medium: Of the others.
        small: Of one that full_node_no_escape fills.
        tiny: Of those that are there for lists of nodes that are long.
    """
    four = (
        *(Node(large, cpus="0"), Node(medium, cpus="1")),
        *(Node(small), Node(medium - small)),
    )
    return {
        "one_node": _machine(Node(large, cpus="0-1")),
        "two_nodes": _machine(Node(large, cpus="0-1"), Node(medium)),
        "four_nodes": _machine(*four, distances=_FALLBACK),
        # What is tested lies on the first four
        "many_nodes": _machine(*four, *[Node(tiny)] * 28),
        # Node 1 has a processor and nothing else
        "memoryless_node": _machine(
            Node(large, cpus="0"), Node(0, cpus="1"), Node(medium), Node(medium)
        ),
        # Memory that is plugged in: all of it is onlined as ZONE_MOVABLE
        "movable_node": _machine(Node(large, cpus="0-1"), Node(medium, plugged=True)),
    }


MACHINES = _machines(large=512, medium=256, small=64, tiny=16)
# KASAN keeps an eighth of the memory for itself, and what is freed for a while.
_KASAN = "CONFIG_KASAN=y"
_WITH_KASAN = _machines(large=1024, medium=512, small=96, tiny=32)

# What cannot be shown on a kind of machine. Anything else that is skipped is a failure.
_NOWHERE = {"vma.dax"}
_THREE_NODES = {
    "cpuset.caller_cpuset_change_no_escape",
    "cpuset.caller_cpuset_common_nodes_only",
    "cpuset.caller_cpuset_no_escape",
    "cpuset.clipped_node_is_misplaced",
    "cpuset.concurrent_cpuset_change",
    "cpuset.concurrent_cpuset_change_move",
    "cpuset.full_node_no_escape",
    "cpuset.rebind_after_target_change",
    "cpuset.rebind_uses_target_base",
    "cpuset.target_cpuset_change_during_move",
    "memory.remote_interleave_move",
    "memory.remote_weighted_interleave_move",
    "memory.vector_interleaves_by_index",
    "vma.interleave_exact_nodes",
    "vma.interleave_thp_exact_nodes",
    "vma.weighted_interleave_exact_nodes",
}
_SMALL_NODE = {"cpuset.full_node_no_escape", "victim.preferred_does_not_reclaim"}
_MANY_NODES = {"future.status_of_many_nodes", "query.many_nodes"}
# Depends on the kernel's version, not on the machine
_MAY_BE_SKIPPED = {"input.pidfd_self_constant", "vma.guard_regions"}
# A kernel that checks its maple trees takes too long for as many mappings as make fork() slow.
_TOO_SLOW = ("CONFIG_DEBUG_VM_MAPLE_TREE=y", {"victim.stuck_target_caller_can_be_killed"})
_PLACEMENT = ("memory.", "cpuset.", "vma.", "future.", "victim.")


def _expected(machine: str, case: str) -> bool:
    """Whether this case has to be skipped on this machine."""
    if case in _NOWHERE:
        return True
    if case in _MANY_NODES:
        return machine != "many_nodes"
    return {
        "one_node": case.startswith(_PLACEMENT),
        "two_nodes": case in _THREE_NODES | _SMALL_NODE,
        "movable_node": case in _THREE_NODES | _SMALL_NODE,
        "four_nodes": False,
        "many_nodes": False,
        "memoryless_node": case in _SMALL_NODE,
    }[machine]


@pytest.fixture(scope="module", params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def all_of_them(
    request: pytest.FixtureRequest, kernel: Path, selftests: list[Path], run_on: Run
) -> Iterator[Mapping[str, Future[Ran]]]:
    """What came of each machine that is asked for; two run at a time, in the order above."""
    machines = _WITH_KASAN if _KASAN in _config(kernel) else MACHINES
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = {call.params.get("machine") for call in calls if call}
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {
            name: pool.submit(run_on, machines[name], selftests)
            for name in MACHINES
            if name in wanted
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def ran(machine: str, all_of_them: Mapping[str, Future[Ran]]) -> Ran:
    return all_of_them[machine].result()


def test_every_program_ran_to_its_end(ran: Ran) -> None:
    ran.check_whole()
    assert len(ran.cases) > 100


def test_no_case_failed(ran: Ran, subtests: pytest.Subtests) -> None:
    ran.check_cases(subtests)


def _config(kernel: Path) -> list[str]:
    return (kernel.parent / "config").read_text().splitlines()


def _may_be_skipped(kernel: Path) -> set[str]:
    option, cases = _TOO_SLOW
    slow = cases if option in _config(kernel) else set[str]()
    return _MAY_BE_SKIPPED | slow


def test_only_what_the_machine_cannot_show_was_skipped(
    machine: str, ran: Ran, kernel: Path
) -> None:
    free = _may_be_skipped(kernel)
    cases = {name: case for name, case in ran.cases.items() if name not in free}
    skipped = {name: case.skipped for name, case in cases.items() if case.skipped}
    assert skipped.keys() == {name for name in cases if _expected(machine, name)}, skipped
    assert "unknown" not in skipped.values()


def test_the_kernel_did_not_complain(ran: Ran) -> None:
    ran.check_console()
