# SPDX-License-Identifier: Apache-2.0
"""Millions of calls of the fuzzer, in runs: none twice, none left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.matrix.fuzz import CALLS_A_RUN, Progress, fuzz


class Runs:
    """Makes runs of 3 tests and 10 s; the seed in `fails` fails, that in `ends` is interrupted."""

    def __init__(self, *, fails: int | None = None, ends: int | None = None) -> None:
        self.made: list[tuple[int, int]] = []
        self.fails, self.ends = fails, ends

    def __call__(self, seed: int, calls: int) -> tuple[int, int, int]:
        if seed == self.ends:
            raise KeyboardInterrupt
        self.made.append((seed, calls))
        return (2, 1, 10) if seed == self.fails else (3, 0, 10)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "kernel-full" / "fuzz.json"


def test_the_runs_add_up_to_the_calls(state: Path) -> None:
    runs = Runs()
    progress = fuzz(2 * CALLS_A_RUN + 7, state, runs)
    assert runs.made == [(1, CALLS_A_RUN), (2, CALLS_A_RUN), (3, 7)]
    assert progress == Progress(runs=3, passed=9, failed=0, seconds=30)


def test_an_interrupted_one_goes_on_with_the_next_seed(state: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fuzz(4 * CALLS_A_RUN, state, Runs(ends=3))
    rest = Runs()
    assert fuzz(4 * CALLS_A_RUN, state, rest).runs == 4
    assert [seed for seed, _ in rest.made] == [3, 4]


def test_a_failure_ends_it_and_is_the_first_to_be_tried_again(state: Path) -> None:
    runs = Runs(fails=2)
    assert fuzz(4 * CALLS_A_RUN, state, runs) == Progress(runs=2, passed=5, failed=1, seconds=20)
    assert [seed for seed, _ in runs.made] == [1, 2]
    again = Runs()
    assert fuzz(4 * CALLS_A_RUN, state, again).failed == 0
    assert [seed for seed, _ in again.made] == [2, 3, 4]


def test_what_is_complete_is_not_run_again(state: Path) -> None:
    fuzz(CALLS_A_RUN, state, Runs())
    assert fuzz(CALLS_A_RUN, state, Runs(ends=1)).passed == 3


def test_another_computer_goes_on_where_one_stopped(state: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.runs"
    with pytest.raises(KeyboardInterrupt):
        fuzz(4 * CALLS_A_RUN, told, Runs(ends=3))
    rest = Runs()
    progress = fuzz(4 * CALLS_A_RUN, state, rest, told=told)
    assert progress == Progress(runs=4, passed=12, failed=0, seconds=40)
    assert [seed for seed, _ in rest.made] == [3, 4]


def test_what_was_told_is_no_step_back(state: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.runs"
    fuzz(CALLS_A_RUN, told, Runs())
    fuzz(3 * CALLS_A_RUN, state, Runs())
    assert fuzz(3 * CALLS_A_RUN, state, Runs(ends=1), told=told).runs == 3
