# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of the agent makes of the lines it reads."""

from __future__ import annotations

import json

import pytest
from memplace_lab.bench import agent as bench_agent
from memplace_lab.bench.agent import AGENT, MEMTIERD, Row

SAMPLE = """\
policy:
  name: age
  config: |
    pidwatcher:
      name: cgroups
      config: |
        cgroups:
          - /sys/fs/cgroup/theirs
    # IdleNumas: where idle pages go
    idlenumas: [2, 3]
    activenumas: [0, 1]
"""


def row(subject: str, what: str, number: int = 0, **fields: float) -> Row:
    return {"round": number, "subject": subject, "what": what, **fields}


def cells(table: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines[2:]}


def test_rows_are_found_between_what_the_kernel_says() -> None:
    console = (
        '[1.0] ROW no\nROW {"subject": "agent"}\nFAILED {"round": 1, "subject": "x", "why": "y"}\n'
    )
    assert bench_agent.rows(console) == [{"subject": "agent"}]
    assert bench_agent.failures(console) == ["round 1, x: y"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 1, 2], 2),
        ([3, -1, 2], 3),  # what never happened is late, not early
        ([-1, -1, 2], None),
        ([], None),
    ],
)
def test_the_middle_of_the_rounds_counts(values: list[int], expected: float | None) -> None:
    found = [row(AGENT, "new mapping", ns=value) for value in values]
    found.append(row(MEMTIERD, "new mapping", ns=7))
    assert bench_agent.middle(found, AGENT, "new mapping", "ns") == expected


def herd(
    agent: float, memtierd: float | None, policy_ns: float = 1e6, faster: float = 1
) -> dict[str, list[str]]:
    whats = ("idle", "changes", "new mappings")
    of = {AGENT: agent} if memtierd is None else {AGENT: agent, MEMTIERD: memtierd}
    found = [
        row(subject, what, percent=value, VmRSS=50)
        for subject, value in of.items()
        for what in whats
    ]
    found += [row(AGENT, "many", VmRSS=97), row(AGENT, "new mapping", policy_ns=policy_ns)]
    if memtierd is not None:
        found.append(row(MEMTIERD, "new mapping", moved_ns=20e9, seen_ns=2e9))
    return cells(bench_agent.herd_table(found, 250, 200, 65530, faster))


def line(table: dict[str, list[str]], begins: str) -> list[str]:
    return next(value for key, value in table.items() if key.startswith(begins))


def test_goals_are_held_against_the_agent_and_its_share_of_the_other() -> None:
    assert line(herd(1.0, 3.0), "CPU, 250") == [
        *("1.00", "3.00", "0.333"),
        "≤ 1 %: met; ≤ 1/3 of memtierd's: met",
    ]
    assert line(herd(1.1, 3.0), "CPU, 250")[-1] == (
        "≤ 1 %: **missed**; ≤ 1/3 of memtierd's: **missed**"
    )
    assert line(herd(1.1, 9.0), "CPU, half")[-1] == "≤ 5 %: met"
    assert line(herd(1.0, 3.0), "resident memory, and one process with 65,530")[-1] == (
        "≤ 96 MiB: **missed**"
    )


def test_shares_are_those_of_a_core_as_fast_as_the_real_one() -> None:
    found = [row("", "calibration", seconds=0.6)]
    assert bench_agent.faster(found, 0.2) == pytest.approx(3)
    assert bench_agent.faster([], 0.2) is None
    table = herd(3, 6, faster=3)
    assert line(table, "CPU, 250")[:3] == ["1.00", "2.00", "0.5"]
    assert line(table, "resident memory, half")[0] == "50.0"


def test_a_share_that_ends_at_the_whole_core_is_said() -> None:
    calm = [row(AGENT, "idle", percent=94), row(MEMTIERD, "many", VmRSS=99)]
    assert bench_agent.saturated(calm) == ""
    text = bench_agent.saturated([*calm, row(MEMTIERD, "idle", percent=99.9)])
    assert MEMTIERD in text and f"{AGENT} and" not in text


def test_without_memtierd_the_comparison_is_not_called_met() -> None:
    assert line(herd(1.0, None), "CPU, 250") == [
        *("1.00", "-", "-"),
        "≤ 1 %: met; ≤ 1/3 of memtierd's: not measured",
    ]


def test_a_mapping_that_nobody_noticed_misses_the_goal() -> None:
    assert line(herd(1, 1), "new mapping")[-1] == "≥ 50 times sooner: met"
    assert line(herd(1, 1, policy_ns=41e6), "the same / until")[-1] == (
        "≥ 50 times sooner: **missed**"
    )
    assert line(herd(1, 1, policy_ns=-1), "new mapping")[-1] == (
        "≥ 50 times sooner: **missed**, nothing came"
    )


@pytest.mark.parametrize(("rss", "outcome"), [(96, "met"), (96.1, "**missed**")])
def test_a_crowd_is_held_against_the_goal_of_its_memory(rss: float, outcome: str) -> None:
    found = [
        row(AGENT, "crowd", percent=3, VmRSS=rss, VmHWM=120),
        row(MEMTIERD, "crowd", percent=30, VmRSS=48, VmHWM=48),
    ]
    table = cells(bench_agent.crowd_table(found, 5000, 3))
    assert line(table, "resident memory, 5,000 processes")[-1] == f"≤ 96 MiB: {outcome}"
    assert line(table, "the most")[:2] == ["120.0", "48.0"]
    assert line(table, "CPU")[:3] == ["1.00", "10.00", "0.1"]


@pytest.mark.parametrize(("worst", "outcome"), [(2_900_000, "met"), (3_100_000, "**missed**")])
def test_a_look_is_held_against_nothing_at_all(worst: int, outcome: str) -> None:
    fields = dict.fromkeys(("map_p99", "fault_worst", "fault_p99"), 1)
    found = [
        row(AGENT, "looked at", map_worst=worst, **fields),
        row(AGENT, "control, looked at", map_worst=2_000_000, **fields),
    ]
    table = cells(bench_agent.victim_table(found, AGENT, "looked at"))
    assert line(table, "mmap()")[-1] == f"≤ 1 ms more than without: {outcome}"
    assert line(table, "page fault: worst")[-1] == ""


def test_the_sample_configuration_gets_our_cgroup_and_nodes_and_stays_otherwise() -> None:
    expected = SAMPLE.replace("/sys/fs/cgroup/theirs", "/ours")
    expected = expected.replace("[2, 3]", "[1]").replace("[0, 1]", "[0]")
    assert bench_agent.memtierd_config(SAMPLE, "/ours") == expected


def test_another_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="age policy"):
        bench_agent.memtierd_config(SAMPLE.replace("idlenumas", "heatnumas"), "/ours")


def test_the_tables_replace_what_is_between_the_marks() -> None:
    page = f"# Head\n{bench_agent.BEGIN}\nold\n{bench_agent.END}\nrest\n"
    once = bench_agent.within(page, "new\n")
    assert once == f"# Head\n{bench_agent.BEGIN}\nnew\n{bench_agent.END}\nrest\n"
    assert bench_agent.within(once, "new") == once
    with pytest.raises(ValueError, match="needs the lines"):
        bench_agent.within("# Head\n", "new")


def test_rows_are_json_that_a_machine_printed() -> None:
    found = bench_agent.rows("ROW " + json.dumps(row(AGENT, "idle", percent=0.5)))
    assert bench_agent.middle(found, AGENT, "idle", "percent") == 0.5
