# SPDX-License-Identifier: Apache-2.0
"""The series' own selftests, on machines with one, two, four and 32 nodes, and with odd ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, boot

from . import tap
from .conftest import Build

_TIMEOUT_S = 900.0


def _node(node: int, mib: int, cpu: str = "") -> list[str]:
    """A node with memory; CPU "0" or "0-1", if it has any."""
    return [
        *("-object", f"memory-backend-memfd,id=m{node},size={mib}M"),
        *("-numa", f"node,nodeid={node},memdev=m{node}" + (f",cpus={cpu}" if cpu else "")),
    ]


def _machine(memory: str, *args: str) -> Machine:
    common = ("-m", memory, "-smp", "2,sockets=2")
    append = "memhp_default_state=online_movable transparent_hugepage=madvise"
    return Machine(args=(*common, *args), machine="q35", append=append, timeout_s=_TIMEOUT_S)


def _dimm(node: int, mib: int) -> list[str]:
    """Memory that is plugged in: all of it is onlined as ZONE_MOVABLE."""
    return [
        *("-object", f"memory-backend-ram,id=d{node},size={mib}M"),
        *("-device", f"pc-dimm,id=dimm{node},memdev=d{node},node={node}"),
    ]


def _machines(large: int, medium: int, small: int, tiny: int) -> Mapping[str, Machine]:
    """The machines by name, from the sizes of their nodes in MiB.

    Args:
        large: Of the node with the first processor.
        medium: Of the others.
        small: Of one that full_node_no_escape fills.
        tiny: Of those that are there for lists of nodes that are long.
    """
    quarter = medium - small
    four = (
        *(*_node(0, large, "0"), *_node(1, medium, "1")),
        *(*_node(2, small), *_node(3, quarter)),
    )
    in_four = large + medium + small + quarter
    more = [arg for node in range(4, 32) for arg in _node(node, tiny)]
    two = large + medium
    return {
        "one_node": _machine(f"{large}M", *_node(0, large, "0-1")),
        "two_nodes": _machine(f"{two}M", *_node(0, large, "0-1"), *_node(1, medium)),
        "four_nodes": _machine(f"{in_four}M", *four),
        # What is tested lies on the first four
        "many_nodes": _machine(f"{in_four + 28 * tiny}M", *four, *more),
        # Node 1 has a processor and nothing else
        "memoryless_node": _machine(
            f"{two + medium}M",
            *(*_node(0, large, "0"), "-numa", "node,nodeid=1,cpus=1"),
            *(*_node(2, medium), *_node(3, medium)),
        ),
        "movable_node": _machine(
            f"{large}M,slots=1,maxmem=4G",
            *(*_node(0, large, "0-1"), "-numa", "node,nodeid=1", *_dimm(1, medium)),
        ),
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
