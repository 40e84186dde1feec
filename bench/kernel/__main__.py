# SPDX-License-Identifier: Apache-2.0
"""Measure process_mbind() against the other calls that move memory, in one machine, one run.

    make bench-kernel                                   # both parts, some 8 minutes
    lab/enter python3 bench/kernel --part victim        # what the process sees that is moved
    lab/enter python3 bench/kernel --before BZIMAGE     # and what changed since that kernel

calls    What the calls cost: ratios of medians, against goals.
victim   How long a process is held up while its memory is moved, and how much memory is
         isolated at a time.
before   With another kernel: page faults, mbind(2), mmap() and munmap(), in instructions. A
         kernel without the series tells what it costs those that don't use it. With one that
         has an earlier version of the call, a page that is moved is compared, too.

The processors are emulated. Instructions are counted, one is one nanosecond: a run gives
nearly the same figures again, wherever it runs and whatever else runs there. What caches,
TLBs and interrupts between processors take is not in them. For the calls there is one
processor; for the victim two, which take turns and count together. With --clock time there
are two that run at once, and time is measured, which is the emulator's and not to be trusted
on a machine that does anything else; take more rounds.

Each call is checked: the memory is where it was to put it, or the run fails with status 1.
A goal that is missed is no failure. --kernel and --before take a file of the cache folder as
/cache/..., for that is where the lab's root has it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base.steps import step
from memplace_lab.bench import calls as bench_calls
from memplace_lab.bench import victim as bench_victim
from memplace_lab.machines import kernel
from memplace_lab.machines.microvm import Machine, boot
from memplace_lab.machines.qemu import Hardware, Node

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE.parents[1] / "lab" / "programs"
_NODES = (Node(2048, cpus="0-1"), Node(2048))
_ONE, _TWO = Hardware(_NODES, smp="1,maxcpus=2"), Hardware(_NODES)

_UNITS = {
    "instructions": "instructions, one is 1 ns",
    "time": "time of the emulator",
}


@dataclass(frozen=True)
class _How:
    title: str
    hardware: Hardware
    counted: bool


def main() -> int:
    """Run what was asked for; 1 if memory was not where a call was to put it."""
    options = _parser().parse_args()
    bzimage = options.kernel or kernel.build_kernel()
    print(f"# {bzimage}")
    with tempfile.TemporaryDirectory() as folder:
        if options.part in ("calls", "both"):
            _calls(bzimage, Path(folder), options)
        if options.before:
            _before(options.before, bzimage, Path(folder), options.rounds)
        if options.part in ("victim", "both"):
            _victim(bzimage, Path(folder), options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/kernel", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--part", choices=("calls", "victim", "both"), default="both", help="(default: both)")
    add("--kernel", type=Path, help="bzImage (default: the lab's, built if need be)")
    add("--before", type=Path, help="bzImage to compare with: without the series, or earlier")
    add("--rounds", type=int, default=3, help="measurements of each (default: 3)")
    add("--clock", choices=tuple(_UNITS), default="instructions", help="(default: instructions)")
    return parser


def _calls(bzimage: Path, folder: Path, options: argparse.Namespace) -> None:
    counted = options.clock == "instructions"
    init = _compile(folder / "bench", "bench.c", "target.c")
    how = _How("what the calls cost", _ONE if counted else _TWO, counted=counted)
    console = _run(bzimage, init, how, f"rounds={options.rounds}")
    print(f"\n## What the calls cost ({_UNITS[options.clock]}; medians of {options.rounds})\n")
    print(bench_calls.table(bench_calls.medians(console)))


def _before(before: Path, after: Path, folder: Path, rounds: int) -> None:
    init = _compile(folder / "bench", "bench.c", "target.c")
    both = [
        bench_calls.medians(
            _run(image, init, _How(f"{image}", _ONE, counted=True), f"rounds={rounds} cost=1")
        )
        for image in (before, after)
    ]
    print(f"\n## Before ({before}) and after\n\n{bench_calls.cost_table(*both)}")


def _victim(bzimage: Path, folder: Path, options: argparse.Namespace) -> None:
    counted, rounds = options.clock == "instructions", options.rounds
    append = f"rounds={rounds} {'counted=1' if counted else ''}"
    init = _compile(folder / "stalls", "stalls.c", "victim.c")
    console = _run(bzimage, init, _How("what a victim sees", _TWO, counted=counted), append)
    found = bench_victim.samples(console)
    if missing := bench_victim.missing(found, rounds):
        raise SystemExit(f"not measured: {missing}; the console ends with\n{console[-3000:]}")
    legend = bench_victim.LEGEND.format(rounds=rounds, unit=_UNITS[options.clock])
    print(f"\n## What a victim sees while its memory is moved\n\n{legend}")
    for size in bench_victim.SIZES:
        print(f"{bench_victim.table(found, size)}\n")
    print(f"{bench_victim.goals(found)}\n\n{bench_victim.GOALS}", end="")


def _compile(program: Path, *sources: str) -> Path:
    shared = [HERE / "common.c", PROGRAMS / "guest.c"]
    files = [(HERE if (HERE / name).exists() else PROGRAMS) / name for name in sources]
    flags = ("-static", "-O2", "-Wall", "-Wextra", "-Werror", "-I", str(PROGRAMS))
    subprocess.run(["gcc", *flags, *map(str, [*files, *shared]), "-o", str(program)], check=True)
    return program


def _run(bzimage: Path, init: Path, how: _How, append: str) -> str:
    """Return the console of the machine.

    Raises:
        SystemExit: A call did not do what it was measured for.
    """
    # Without ERMS the kernel copies pages word by word. With it, rep movsb is emulated byte by
    # byte: half of the time of both sides went into that.
    # One instruction is one nanosecond. Counted processors take turns.
    counting = ("-icount", "shift=0,sleep=off") if how.counted else ()
    machine = Machine(
        how.hardware,
        args=counting,
        cpu="max,-erms,-fsrm",
        append=f"transparent_hugepage=never {append}",
        timeout_s=3600,
    )
    with step(how.title), tempfile.TemporaryDirectory() as workdir:
        console = boot(bzimage, init, machine, Path(workdir), multithreaded=not how.counted)
    if "ERROR" in console or "DONE" not in console:
        raise SystemExit(f"the measurement went wrong:\n{console[-3000:]}")
    return console


if __name__ == "__main__":
    sys.exit(main())
