# SPDX-License-Identifier: Apache-2.0
"""How much of the heap of real programs follows a default for mappings to come.

    make bench-heap                                # all, about 12 minutes
    lab/enter python3 bench/heap --only Java       # those with this in their name

One machine: node 0 has the processors, node 1 only memory. Each program starts with a small
heap on node 0, gets node 1 as its default (MPOL_MF_FUTURE), and grows by about 64 MiB, four
times: without a default, as a control; with one set while it runs; with one set while it runs
together with the policy of all it has mapped (no page is moved); with one set before it
started. The table says how much of the growth is on node 1. Exit status 1 if a program could
not be measured.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memplace_lab.base import store
from memplace_lab.machines import kernel, rootdisk
from memplace_lab.machines.microvm import Machine, boot_disk
from memplace_lab.machines.qemu import Hardware, Node

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE.parents[1] / "lab" / "programs"
PACKAGES = (
    "python3",
    "redis-server",
    "postgresql",
    "default-jdk-headless",
    "libjemalloc2",
    "libtcmalloc-minimal4t64",
    "libmimalloc3",
    "musl",
)
_LINE = re.compile(r"^(ROW|FAILED) (\{.*\})$", re.MULTILINE)
_MIB = 1 << 20
_HARDWARE = Hardware((Node(1536, cpus="0-1"), Node(1536)))
_HEAD = (
    "program",
    "grows by",
    "MiB",
    "set while it runs",
    "with what it has mapped",
    "set before it starts",
    "the rest of the first: MiB",
)

Rows = dict[str, dict[str, Any]]  # program -> way to set the default -> what the guest said


def main() -> int:
    """Run the machine and print the table; 1 if a program could not be measured."""
    options = _parser().parse_args()
    bzimage = options.kernel or kernel.build_kernel()
    with tempfile.TemporaryDirectory() as folder:
        disk = _disk(Path(folder))
    # ERMS: copying is emulated byte by byte with it, see bench/kernel
    machine = Machine(
        _HARDWARE,
        cpu="max,-erms,-fsrm",
        append=f"HEAP_ONLY={options.only.replace(' ', '_')}",
        timeout_s=3600,
    )
    log = store.CACHE / "log" / "heap.console"
    print(f"{bzimage}: running; {log} tells how far it is", file=sys.stderr)
    console = boot_disk(bzimage, disk, machine, log)
    rows, failed = _results(console)
    print("\n" + table(rows))
    for problem in failed:
        print(f"FAILED: {problem['program']}, {problem['mode']}: {problem['why']}")
    if failed or not rows or "END run-this 0" not in console:
        print(f"the console ends with:\n{console[-3000:]}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/heap", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--kernel", type=Path, help="bzImage (default: the lab's, built if need be)"
    )
    parser.add_argument("--only", default="", help="programs whose name has this text")
    return parser


def _disk(folder: Path) -> Path:
    """Make a Debian with the programs; C and Go are compiled here, Java in the machine."""
    programs = HERE / "programs"
    _run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", programs / "grow.c",
         "-o", folder / "grow-glibc")  # fmt: skip
    _run("musl-gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", programs / "grow.c",
         "-o", folder / "grow-musl")  # fmt: skip
    _run("gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-I", PROGRAMS,
         HERE / "setdefault.c", PROGRAMS / "guest.c", "-o", folder / "setdefault")  # fmt: skip
    _run("go", "build", "-trimpath", "-o", folder / "grow-go", programs / "grow.go")
    files = {f"heap/{name}": folder / name for name in ("grow-glibc", "grow-musl", "grow-go")}
    files |= {
        "heap/setdefault": folder / "setdefault",
        "heap/grow.py": programs / "grow.py",
        "heap/Grow.java": programs / "Grow.java",
        "bench/heap/guest": HERE / "guest",
        "run-this": HERE / "run-this",
    }
    return rootdisk.ensure_disk("heap", PACKAGES, files, size="3G")


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)


def _results(console: str) -> tuple[Rows, list[dict[str, Any]]]:
    rows: Rows = {}
    failed = []
    for what, text in _LINE.findall(console):
        found = json.loads(text)
        if what == "ROW":
            rows.setdefault(found["program"], {})[found["mode"]] = found
        else:
            failed.append(found)
    return rows, failed


def table(rows: Rows) -> str:
    """Return the programs as a Markdown table; a way that failed is a dash."""
    lines = [f"| {' | '.join(_HEAD)} |", "|---|---|---:|---:|---:|---:|---|"]
    for program, ways in rows.items():
        some = next(iter(ways.values()))
        later = ways.get("later")
        cells = (
            f"{program} ({some['version']})",
            some["grows"],
            f"{sum(later['grown']) / _MIB:.0f}" if later else "-",
            *(_share(ways.get(way)) for way in ("later", "ranges", "exec")),
            _rest(later["stayed"]) if later else "-",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(way: Mapping[str, Any] | None) -> str:
    """Return how much of all that it grew by is on node 1."""
    if way is None:
        return "-"
    there = way["grown"][1]
    return f"{there / _MIB:.1f} MiB, {100 * there / sum(way['grown']):.0f} %"


def _rest(stayed: Mapping[str, int]) -> str:
    """Tell why memory is on node 0, without what is less than 0.1 MiB."""
    large = {reason: size / _MIB for reason, size in stayed.items() if abs(size) >= 0.1 * _MIB}
    return ", ".join(f"{size:.1f} {reason}" for reason, size in large.items())


if __name__ == "__main__":
    sys.exit(main())
