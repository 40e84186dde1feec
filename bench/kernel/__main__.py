# SPDX-License-Identifier: Apache-2.0
"""Measure process_mbind() against the other calls that move memory, in one machine, one run.

    make bench-kernel                                    # the comparison, a minute or two
    lab/enter python3 bench/kernel --before BZIMAGE      # and what the series costs others

Every figure is a ratio of medians. The processor is emulated, so the times themselves say
nothing; with --instructions they are the number of instructions executed, which depends
little on what else the machine does.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from memplace_lab import kernel
from memplace_lab.microvm import Machine, boot

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1] / "tests" / "kernel"
_TIME = re.compile(r"^TIME (\S+) \d+ (\d+)$", re.MULTILINE)
_MEMORY = (
    *("-m", "4G"),
    *("-object", "memory-backend-memfd,id=m0,size=2G", "-numa", "node,nodeid=0,memdev=m0,cpus=0-1"),
    *("-object", "memory-backend-memfd,id=m1,size=2G", "-numa", "node,nodeid=1,memdev=m1"),
)


@dataclass(frozen=True)
class Ratio:
    """One line of the table: what is compared, and what it should come to.

    Attributes:
        what: For people.
        over: The measurement above the line.
        under: The one below.
        goal: The least or the most it should be; None where there is no goal.
        at_least: Whether `goal` is the least.
    """

    what: str
    over: str
    under: str
    goal: float | None = None
    at_least: bool = False


def _times(flag: str, count: int, goal: float | None) -> Ratio:
    what = {"policy": "policy only", "move": "with MOVE"}[flag]
    return Ratio(
        f"{count} ranges of 32 KiB, {what}: time of one call / of {count} mbind() by the process",
        f"{flag}.{count}.process_mbind",
        f"{flag}.{count}.mbind",
        goal,
    )


def _throughput(shape: str, peer: str, goal: float | None) -> Ratio:
    what = f"{shape}: throughput / that of {peer}()"
    return Ratio(what, f"{shape}.{peer}", f"{shape}.process_mbind", goal, at_least=True)


COMPARISON = (
    *(_times("policy", count, 0.5 if count == 1024 else None) for count in (1, 16, 256, 1024)),
    *(_times("move", count, 0.1 if count == 1024 else None) for count in (1, 16, 256, 1024)),
    _throughput("scattered-1024x32K", "move_pages", 1.2),
    _throughput("contiguous-64M", "move_pages", 1.5),
    _throughput("contiguous-1G", "move_pages", 1.5),
    _throughput("contiguous-64M", "migrate_pages", None),
)
NEIGHBOURS = {
    "fault.4096": "4,096 page faults",
    "mbind.512": "512 mbind(2)",
    "mmap.512": "512 mmap() and munmap()",
    "munmap.4096": "munmap() of 512 policies and 4,096 pages",
}


def main() -> int:
    """Run what was asked for; 1 if memory was not where a call was to put it."""
    options = _parser().parse_args()
    init = _compile(Path(tempfile.mkdtemp()))
    bzimage = options.kernel or kernel.image()
    measured = _measure(bzimage, init, options.instructions, options.rounds)
    unit = "instructions" if options.instructions else "ns, emulated"
    print(f"\nmedians of {options.rounds}; time in {unit}\n")
    print(table(measured, COMPARISON))
    if options.before:
        # The same program: where the call is missing it measures the neighbours only.
        before = _measure(options.before, init, True, options.rounds)
        after = _measure(bzimage, init, True, options.rounds, "neighbours=1")
        print("\n" + cost_table(before, after))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/kernel", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kernel", type=Path, help="bzImage (default: the lab's, built if need be)")
    parser.add_argument("--before", type=Path, help="bzImage of the same source without the series")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each (default: 7)")
    parser.add_argument("--instructions", action="store_true", help="count instructions, not time")
    return parser


def _compile(target: Path) -> Path:
    program = target / "bench"
    sources = [HERE / "bench.c", TESTS / "guest.c", TESTS / "target.c"]
    flags = ("-static", "-O2", "-Wall", "-Wextra", "-Werror", "-I", str(TESTS))
    subprocess.run(["gcc", *flags, *map(str, sources), "-o", str(program)], check=True)
    return program


def _measure(
    bzimage: Path, init: Path, instructions: bool, rounds: int, *more: str
) -> dict[str, float]:
    """Median of each measurement, in ns or instructions.

    Raises:
        SystemExit: A call did not do what it was measured for.
    """
    # Without ERMS the kernel copies pages word by word. With it, rep movsb is emulated byte by
    # byte: half of the time of both sides went into that.
    # One instruction is one nanosecond; only one processor can be counted.
    counting = ("-icount", "shift=0,sleep=off", "-smp", "1,maxcpus=2") if instructions else ()
    machine = Machine(
        args=(*_MEMORY, *(counting or ("-smp", "2"))),
        machine="q35",
        cpu="max,-erms,-fsrm",
        append=f"transparent_hugepage=never rounds={rounds} {' '.join(more)}",
        timeout_s=3600,
    )
    print(f"{bzimage}: running …", file=sys.stderr)
    with tempfile.TemporaryDirectory() as workdir:
        console = boot(bzimage, init, machine, Path(workdir), multithreaded=not instructions)
    if "ERROR" in console or "DONE" not in console:
        raise SystemExit(f"the measurement went wrong:\n{console[-3000:]}")
    found: dict[str, list[int]] = {}
    for name, value in _TIME.findall(console):
        found.setdefault(name, []).append(int(value))
    return {name: median(values) for name, values in found.items()}


def table(measured: Mapping[str, float], ratios: Sequence[Ratio]) -> str:
    """The comparison as a Markdown table."""
    lines = ["| what | ratio | goal | |", "|---|---:|---:|---|"]
    for line in ratios:
        ratio = measured[line.over] / measured[line.under]
        goal, verdict = "", ""
        if line.goal is not None:
            goal = f"{'≥' if line.at_least else '≤'} {line.goal}"
            verdict = "met" if (ratio >= line.goal) == line.at_least else "missed"
        lines.append(f"| {line.what} | {ratio:.2f} | {goal} | {verdict} |")
    return "\n".join(lines)


def cost_table(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """What calls that do not use the series cost with it and without it."""
    lines = ["| instructions of | before | after | ratio |", "|---|---:|---:|---:|"]
    for name, what in NEIGHBOURS.items():
        ratio = after[name] / before[name]
        lines.append(f"| {what} | {before[name]:,.0f} | {after[name]:,.0f} | {ratio:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
