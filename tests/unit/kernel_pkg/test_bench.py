# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of the kernel makes of the numbers it reads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from memplace_lab.bench import calls as bench_calls
from memplace_lab.bench import victim as bench_victim
from memplace_lab.bench.calls import COMPARISON, Ratio
from memplace_lab.bench.victim import KINDS, MOVERS, SIZES, Sample

CONSOLE = """\
[    1.0] Run /init as init process
TIME policy.1.mbind 0 300
TIME policy.1.mbind 1 100
TIME policy.1.mbind 2 200
VICTIM 1G process_mbind mmap 0 1793000000 7603 115692712 1002 512
VICTIM 1G process_mbind mmap 1 1793000000 7603 500000 1002 2048
DONE
"""


def rows(table: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def samples(**special: float) -> list[Sample]:
    """One round in which all see the same, but for worst_ms of size_mover_kind."""
    return [
        Sample(size, mover, kind, 1700, 4000, worst, 0.01, 2)
        for size in SIZES
        for mover in MOVERS
        for kind in KINDS
        for worst in [special.get(f"{size}_{mover}_{kind}", 0.1 if mover == "control" else 1)]
    ]


def verdicts(found: Sequence[Sample]) -> dict[str, str]:
    return {row[0]: row[-1] for row in rows(bench_victim.goals(found))}


def test_the_middle_of_each_measurement_counts() -> None:
    assert bench_calls.medians(CONSOLE) == {"policy.1.mbind": 200}


@pytest.mark.parametrize(
    ("goal", "at_least", "expected"),
    [
        (0.5, False, ["0.50", "≤ 0.5", "met"]),
        (0.49, False, ["0.50", "≤ 0.49", "missed"]),
        (0.5, True, ["0.50", "≥ 0.5", "met"]),
        (0.51, True, ["0.50", "≥ 0.51", "missed"]),
        (None, False, ["0.50", "none", ""]),
    ],
)
def test_a_ratio_is_held_against_its_goal(
    goal: float | None, *, at_least: bool, expected: list[str]
) -> None:
    table = bench_calls.table({"a": 1, "b": 2}, [Ratio("a / b", "a", "b", goal, at_least)])
    assert rows(table) == [["a / b", *expected]]


def test_less_time_is_more_throughput() -> None:
    measured = dict.fromkeys((name for line in COMPARISON for name in (line.over, line.under)), 1.0)
    measured["contiguous-1G.process_mbind"] = 0.5
    shown = {row[0]: row[1:] for row in rows(bench_calls.table(measured))}
    assert shown["one range of 1 GiB: throughput / that of move_pages()"] == [
        "2.00",
        "≥ 1.05",
        "met",
    ]


@pytest.mark.parametrize(("after", "expected"), [(1005.0, "met"), (1006.0, "missed")])
def test_a_page_must_not_become_dearer(after: float, expected: str) -> None:
    before = dict.fromkeys(
        ("fault.4096", "mbind.512", "mmap.512", "munmap.4096", "move.1G"), 1000.0
    )
    last = rows(bench_calls.cost_table(before, before | {"move.1G": after}))[-1]
    assert (last[0], last[-1]) == (
        "a page that process_mbind() moves, one range of 1 GiB",
        expected,
    )


def test_a_kernel_without_the_call_has_no_price_of_a_page() -> None:
    before = dict.fromkeys(("fault.4096", "mbind.512", "mmap.512", "munmap.4096"), 1000.0)
    assert len(rows(bench_calls.cost_table(before, before | {"move.1G": 7.0}))) == 4


def test_what_a_victim_saw_is_read() -> None:
    first, _second = bench_victim.samples(CONSOLE)
    assert first == Sample("1G", "process_mbind", "mmap", 1793, 7603, 115.692712, 0.001002, 2)


def test_a_measurement_that_is_not_there_is_named() -> None:
    found = samples()
    assert bench_victim.missing(found, 1) == []
    assert bench_victim.missing(found[1:], 1) == [
        " ".join((found[0].size, found[0].mover, "fault"))
    ]
    assert len(bench_victim.missing(found, 2)) == len(found)


def test_a_table_shows_median_and_worst() -> None:
    found = samples() + samples() + samples(**{"1G_migrate_pages_read": 9})
    (row,) = (row for row in rows(bench_victim.table(found, "1G")) if row[0] == "migrate_pages()")
    assert row == [
        "migrate_pages()",
        "1,700",
        "2.0",
        *["1.00 (1.00)", "0.01"] * 2,
        "1.00 (9.00)",
        "0.01",
    ]


def test_goals_are_met_by_the_same_delays() -> None:
    assert set(verdicts(samples()).values()) == {"met"}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_delay_than_that_of_the_peer_misses(size: str, kind: str) -> None:
    goal = f"{SIZES[size]}: worst {KINDS[kind]}, ms"
    assert verdicts(samples(**{f"{size}_process_mbind_{kind}": 1.14}))[goal] == "met"
    assert verdicts(samples(**{f"{size}_process_mbind_{kind}": 1.16}))[goal] == "missed"


def test_what_an_idle_machine_shows_is_no_fault_of_the_call() -> None:
    found = samples(**{"1G_process_mbind_read": 3, "1G_control_read": 3})
    assert set(verdicts(found).values()) == {"met"}


@pytest.mark.parametrize(("large", "expected"), [(1.6, "met"), (1.61, "missed")])
def test_the_delay_must_not_grow_with_the_range(large: float, expected: str) -> None:
    found = verdicts(samples(**{"1G_process_mbind_mmap": large, "1G_move_pages-2M_mmap": 9}))
    assert found["1 GiB beside 64 MiB: worst mmap, touch, munmap, ms"] == expected


def test_much_isolated_memory_misses_in_whatever_round_it_was_seen() -> None:
    found = samples()
    found.append(Sample("64M", "process_mbind", "read", 1, 1, 1, 1, 4.1))
    assert verdicts(found)["isolated at a time, MiB"] == "missed"
    found[-1] = Sample("64M", "move_pages", "read", 1, 1, 1, 1, 1024)
    assert verdicts(found)["isolated at a time, MiB"] == "met"
