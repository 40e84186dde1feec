# SPDX-License-Identifier: Apache-2.0
"""The kernel's tests on every base and in every debug flavour, in parts, with one table.

    make test-kernel-full                  # all parts; what passed is not run again
    lab/enter python3 -m memplace_lab matrix 7.3 6.12-lockdep

A part is a kernel to build and tests to run on it. An outcome without a failure is kept
by what it was made of, so an interrupted run goes on where it was; so is each run of the
fuzzer, on another computer too if its file is in ``kernel/fuzzed`` (see `fuzz`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from memplace_lab.base import store
from memplace_lab.base.steps import LabError, say
from memplace_lab.machines import kernel
from memplace_lab.matrix import fuzz, neighbours, programs

# The tests that it runs are all that the lab knows of tests/, as lab/test does.
_SUITE = store.REPO / "tests" / "kernel"
_PROGRAMS = store.REPO / "lab" / "programs"
_FUZZED = store.REPO / "kernel" / "fuzzed"
_FUZZER = ("fuzz.c", "fuzz.h", "fuzz_request.c", "fuzz_target.c", "test_fuzz.py", "tap.py")
_CLEAN = "no_case_failed or did_not_complain"
_LOCKING = "locking, checks of mm"
_ERRORS = "memory errors, undefined behaviour, failing allocations, leaks"
_MANY_CALLS = "fuzzer 10 M calls, KASAN + lockdep"
_AS_BEFORE = "tests of mm, numactl and LTP: as without the series"


@dataclass(frozen=True)
class Part:
    """A kernel, and which of the tests in ``tests/kernel`` say something about it.

    Attributes:
        base: A directory of ``kernel/``.
        flavour: See `kernel.build_kernel`; with a plus sign a kernel with both.
        select: An expression for ``pytest -k``; "" for all, None where building is the test.
        why: What the part is to show.
        neighbours: Run the tests of others instead, see `neighbours`; what fails
            without the series, too, is no failure.
        calls: How many the fuzzer makes; 0 for as many as in ``make test``.
    """

    base: str
    flavour: str = ""
    select: str | None = ""
    why: str = "everything"
    neighbours: bool = False
    calls: int = 0

    @property
    def kind(self) -> str:
        """What is special about it, if anything."""
        if self.neighbours:
            return "neighbours"
        words = [*self.flavour.split("+"), "fuzzer" if self.calls else ""]
        return "-".join(filter(None, words))

    @property
    def name(self) -> str:
        """Base and kind."""
        return f"{self.base}-{self.kind}" if self.kind else self.base


PARTS = (
    Part("6.12"),
    Part("7.3"),
    Part("6.12", "lockdep", why=_LOCKING),
    Part("7.3", "lockdep", why=_LOCKING),
    Part("6.12", "kasan", why=_ERRORS),
    Part("7.3", "kasan", why=_ERRORS),
    Part("6.12", "i386", None, "builds"),
    Part("6.12", "no-cpusets", f"two_nodes and ({_CLEAN})", "no cpuset to look at"),
    Part("6.12", "broken", "test_broken", "selftests fail on a kernel broken on purpose"),
    Part("6.12", "no-numa", f"one_node and ({_CLEAN})", "the call is absent, its tests skip"),
    Part("6.12", "", "test_fuzz", "a million calls of the fuzzer", calls=1_000_000),
    Part("6.12", "kasan+lockdep+endurance", "test_fuzz", _MANY_CALLS, calls=10_000_000),
    Part("6.12", why=_AS_BEFORE, neighbours=True),
    Part("7.3", why=_AS_BEFORE, neighbours=True),
)
NOT_RUN = "a 32-bit kernel booted"


@dataclass(frozen=True)
class Outcome:
    """What a part came to; ``release`` is what ``uname -r`` says."""

    release: str
    passed: int
    failed: int
    seconds: int
    day: str


def run(wanted: Sequence[str]) -> int:
    """Run these parts, or all, and print the table; 1 if a test failed.

    Raises:
        LabError: There is no such part.
    """
    names = [part.name for part in PARTS]
    if unknown := set(wanted) - set(names):
        raise LabError(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    outcomes = {part: _outcome(part) for part in PARTS if not wanted or part.name in wanted}
    print(table(outcomes))
    return 1 if any(outcome.failed for outcome in outcomes.values()) else 0


def _outcome(part: Part) -> Outcome:
    bzimage = kernel.build_kernel(part.base, part.flavour)
    tests = [_SUITE / name for name in _FUZZER] if part.calls else [_SUITE]
    key = store.digest(bzimage.parent.name, part.select or "", str(part.calls), *tests, _PROGRAMS)
    if part.neighbours:
        key = neighbours.build_key(part.base)
    kept = store.CACHE / "kernel-full" / f"{part.name}-{key}.json"
    if kept.exists():
        say(f"{part.name}: known already ({kept})")
        return Outcome(**json.loads(kept.read_text()))
    outcome = _run(part, bzimage, kept.with_suffix(".runs"))
    if not outcome.failed:
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(asdict(outcome)))
    return outcome


def _run(part: Part, bzimage: Path, runs: Path) -> Outcome:
    start = time.monotonic()
    seconds = None
    if part.neighbours:
        passed, failed = _compared(part.base)
    elif part.calls:
        made = partial(_fuzzed, bzimage, part)
        fuzzed = fuzz.fuzz(part.calls, runs, made, told=_FUZZED / runs.name)
        passed, failed, seconds = fuzzed.passed, fuzzed.failed, fuzzed.seconds
    else:
        passed, failed = (0, 0) if part.select is None else _tested(bzimage, part, {})
    return Outcome(
        release=(bzimage.parent / "release").read_text().strip(),
        passed=passed,
        failed=failed,
        seconds=round(time.monotonic() - start) if seconds is None else seconds,
        day=date.today().isoformat(),
    )


def _fuzzed(bzimage: Path, part: Part, seed: int, calls: int) -> tuple[int, int, int]:
    """Run the fuzzer once; return tests that passed, tests that did not, seconds."""
    start = time.monotonic()
    env = {"MEMPLACE_FUZZ_CALLS": str(calls), "MEMPLACE_FUZZ_SEED": str(seed)}
    passed, failed = _tested(bzimage, part, env)
    return passed, failed, round(time.monotonic() - start)


def _tested(bzimage: Path, part: Part, more: Mapping[str, str]) -> tuple[int, int]:
    """Run the tests; how many passed, and how many did not."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Twice: the whole console of a test that fails is printed. Its machine comes once.
        command = [sys.executable, "-m", "pytest", "-vv", f"--junitxml={report}", str(_SUITE)]
        subprocess.run(
            [*command, *(["-k", part.select] if part.select else [])],
            env={**os.environ, "MEMPLACE_KERNEL": str(bzimage), "MEMPLACE_SLOWER": "4", **more},
            check=False,
        )
        return _counted(report)


def _compared(base: str) -> tuple[int, int]:
    """Run the tests of others, before and after; how many passed, and what no longer does."""
    comparison = neighbours.compare(base)
    print(comparison)
    return comparison.passed, len(comparison.regressions)


def _counted(report: Path) -> tuple[int, int]:
    """Count tests that passed, and those that did not for whatever reason (a skip is one)."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None, report
    total = int(suite.get("tests", 0))
    bad = sum(int(suite.get(name, 0)) for name in ("failures", "errors", "skipped"))
    return total - bad, bad or int(total == 0)


def table(outcomes: dict[Part, Outcome]) -> str:
    """Return the outcomes in Markdown, and what there is no part for."""
    lines = ["| kernel | shows | passed | failed | min | on |", "|---|---|---:|---:|---:|---|"]
    lines += [_line(part, outcome) for part, outcome in outcomes.items()]
    left = [part.name for part in PARTS if part not in outcomes]
    if programs.ltp() is None:
        left.append("LTP's tests (MEMPLACE_LTP)")
    return "\n".join([*lines, "", f"NOT RUN: {', '.join((*left, NOT_RUN))}"])


def _line(part: Part, outcome: Outcome) -> str:
    what = f"{outcome.release} {part.kind}".strip()
    counts = f"{outcome.passed} | {outcome.failed} | {outcome.seconds / 60:.0f}"
    if part.select is None:
        counts = "- | - | -"
    return f"| {what} | {part.why} | {counts} | {outcome.day} |"
