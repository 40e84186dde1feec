# SPDX-License-Identifier: Apache-2.0
"""The series' own selftests, on machines with one, two, four and 32 nodes, and with odd ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, boot
from memplace_lab.machines.qemu import ONLINE_MOVABLE, Hardware, Node

from tests.kernel.building import Build

from . import tap

_TIMEOUT_S = 900.0


def _machine(*nodes: Node) -> Machine:
    append = f"{ONLINE_MOVABLE} transparent_hugepage=madvise"
    return Machine(Hardware(nodes, smp="2,sockets=2"), append=append, timeout_s=_TIMEOUT_S)


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
        "four_nodes": _machine(*four),
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
def consoles(
    kernel: Path,
    selftests: list[Path],
    build_init: Build,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, Future[str]]]:
    """What each machine printed; two of them run at a time, in the order above."""
    init = build_init("selftest_init", "selftest_init.c", shared=False)
    machines = _WITH_KASAN if _KASAN in _config(kernel) else MACHINES

    def run(name: str) -> str:
        workdir = tmp_path_factory.mktemp(name)
        text = boot(kernel, init, machines[name], workdir, selftests)
        (workdir / "console.txt").write_text(text)
        return text

    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {name: pool.submit(run, name) for name in MACHINES}
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def console(machine: str, consoles: Mapping[str, Future[str]]) -> str:
    return consoles[machine].result()


def test_every_program_ran_to_its_end(console: str, selftests: list[Path]) -> None:
    for program in selftests:
        assert f"END {program.name} 0" in console, console[-3000:]
    assert len(tap.results(console)) == tap.planned(console) > 100


def test_no_case_failed(console: str) -> None:
    assert tap.results(console), console[-3000:]
    failed = {name: r.notes[-12:] for name, r in tap.results(console).items() if not r.good}
    assert failed == {}


def _config(kernel: Path) -> list[str]:
    return (kernel.parent / "config").read_text().splitlines()


def _may_be_skipped(kernel: Path) -> set[str]:
    option, cases = _TOO_SLOW
    slow = cases if option in _config(kernel) else set[str]()
    return _MAY_BE_SKIPPED | slow


def test_only_what_the_machine_cannot_show_was_skipped(
    machine: str, console: str, kernel: Path
) -> None:
    free = _may_be_skipped(kernel)
    cases = {name: r for name, r in tap.results(console).items() if name not in free}
    skipped = {name: result.skipped for name, result in cases.items() if result.skipped}
    assert skipped.keys() == {name for name in cases if _expected(machine, name)}, skipped
    assert "unknown" not in skipped.values()


def test_the_kernel_did_not_complain(console: str) -> None:
    assert tap.splats(console) == []
