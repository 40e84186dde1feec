# SPDX-License-Identifier: Apache-2.0
"""Millions of calls by the fuzzer, in many runs. What was interrupted continues where it stopped.

Each run is a machine of its own that starts from the next seed. After each run a file says
what all of them came to. Such a file in ``kernel/fuzzed`` is where another computer goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from memplace_lab.base.steps import say

CALLS_A_RUN = 50_000


@dataclass(frozen=True)
class Progress:
    """What the runs so far came to.

    Attributes:
        runs: How many there were; the next one has this number plus one as its seed.
        passed: Their tests that passed.
        failed: Those that did not.
        seconds: How long all of them took.
    """

    runs: int = 0
    passed: int = 0
    failed: int = 0
    seconds: int = 0


def fuzz(
    calls: int,
    state: Path,
    run: Callable[[int, int], tuple[int, int, int]],
    *,
    told: Path | None = None,
) -> Progress:
    """Make this many calls; stops at the first run with a failure, which can be repeated.

    Args:
        calls: How many, in all.
        state: Where the progress is kept. It is of one kernel and one fuzzer.
        run: Makes one run, from a seed and a number of calls: how many tests passed, how many
            failed, and the seconds it took.
        told: The progress that another computer made with the same kernel and fuzzer, if any.
    """
    progress = max(_read(state), _read(told), key=lambda each: each.runs)
    wanted = -(-calls // CALLS_A_RUN)
    if progress.runs:
        say(f"fuzzer: {progress.runs} of {wanted} runs are known already")
    while progress.runs < wanted and not progress.failed:
        seed = progress.runs + 1
        passed, failed, seconds = run(seed, min(CALLS_A_RUN, calls - progress.runs * CALLS_A_RUN))
        done = Progress(
            runs=seed,
            passed=progress.passed + passed,
            failed=failed,
            seconds=progress.seconds + seconds,
        )
        if failed:
            say(f"fuzzer: seed {seed} fails; the next try begins with it")
            return done
        progress = done
        state.parent.mkdir(parents=True, exist_ok=True)
        kept = state.with_suffix(".new")
        kept.write_text(json.dumps(asdict(progress)))
        kept.replace(state)
        say(f"fuzzer: {seed} of {wanted} runs, {progress.seconds / 60:.0f} min")
    return progress


def _read(state: Path | None) -> Progress:
    if state is None or not state.exists():
        return Progress()
    return Progress(**json.loads(state.read_text()))
