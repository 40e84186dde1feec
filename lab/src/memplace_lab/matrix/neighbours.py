# SPDX-License-Identifier: Apache-2.0
"""The tests of other projects, on a kernel without the series and on one with it.

    lab/enter python3 -m memplace_lab neighbours 6.12

mm's own selftests, tools/testing/vma, numactl's "make check", and, where MEMPLACE_LTP names
LTP's source, its tests of memory policies: the same programs on the same kind of machine.
A test that passed before and does not pass after is a failure; one that fails on both is
listed, and is not. Under emulation a base takes about 20 minutes, without building kernels.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base import store
from memplace_lab.base.steps import LabError, say, step
from memplace_lab.machines import kernel, rootdisk
from memplace_lab.machines.microvm import Machine, boot_disk, console_of
from memplace_lab.machines.qemu import Hardware, Node
from memplace_lab.matrix import programs as neighbour_programs
from memplace_lab.matrix.results import Result, regressions, result, results, table

_GUEST = store.REPO / "lab" / "neighbours"
_PACKAGES = ("libnuma1",)
_BOOT_S = 300
_FINISHED = "END run-this 0"


def _machine(limit_s: float) -> Machine:
    """Return two nodes of 1 GiB with two processors each: migration.c wants three threads."""
    hardware = Hardware((Node(1024, cpus="0-1"), Node(1024, cpus="2-3")), smp="4,sockets=2")
    return Machine(hardware, append="transparent_hugepage=madvise", timeout_s=limit_s)


@dataclass(frozen=True)
class Comparison:
    """Name -> result, of the kernel without the series and of the one with it."""

    before: Mapping[str, Result]
    after: Mapping[str, Result]

    @property
    def regressions(self) -> list[str]:
        """What passed before and does not after."""
        return regressions(self.before, self.after)

    @property
    def passed(self) -> int:
        """How many programs passed on the kernel with the series."""
        return sum(one.good for one in self.after.values())

    def __str__(self) -> str:
        found = self.regressions
        lines = [table(self.before, self.after), ""]
        lines += [f"REGRESSED {line}" for line in found]
        return "\n".join((*lines, f"{len(found)} regressions" if found else "no regression"))


def build_key(base: str) -> str:
    """Build what a comparison is made of, both kernels and the programs; return its key."""
    kernels = [kernel.build_kernel(base, flavour).parent.name for flavour in (kernel.UNPATCHED, "")]
    programs = neighbour_programs.build_programs(base)
    return store.digest(*kernels, programs.name, _GUEST, store.code(__file__))


def compare(base: str) -> Comparison:
    """Run everything on both kernels; what the one without the series came to is kept.

    Raises:
        LabError: The kernel without the series did not get to the end of the list.
    """
    programs = neighbour_programs.build_programs(base)
    old, new = kernel.build_kernel(base, kernel.UNPATCHED), kernel.build_kernel(base)
    files = {"run-this": _GUEST / "run-this", "neighbours": programs}
    disk = rootdisk.ensure_disk("neighbours", _PACKAGES, files, size="2G")
    machine = _machine(_BOOT_S + neighbour_programs.limit_s(programs / "tests"))

    def make(target: Path) -> None:
        log = target / "console.txt"
        text = _console(old, disk, machine, log)
        if _FINISHED not in text:
            raise LabError(f"{base} without the series did not finish:\n{text[-3000:]}")

    parts = (old.parent.name, disk.parent.name, store.code(__file__))
    title = f"mm's neighbours on {base} without the series"
    kept = store.ensure(f"neighbours-before-{base}", store.digest(*parts), make, title=title)
    before = console_of(kept / "console.txt")
    with step(f"mm's neighbours on {base} with the series"):
        after = _console(new, disk, machine, store.CACHE / "log" / f"neighbours-{base}.console")
    return Comparison(
        {"vma/vma": _vma(old), **results(before)}, {"vma/vma": _vma(new), **results(after)}
    )


def _console(image: Path, disk: Path, machine: Machine, log: Path) -> str:
    """Return what the machine printed, as far as it came."""
    say(f"{log} tells how far it is")
    try:
        return boot_disk(image, disk, machine, log)
    except TimeoutError:
        return console_of(log)


def _vma(image: Path) -> Result:
    """Build and run tools/testing/vma of a kernel's own source: mm/vma.c in user space."""
    with tempfile.TemporaryDirectory() as folder:
        tree = shutil.copytree(image.parent / "source", Path(folder) / "source", symlinks=True)
        tests = tree / "tools" / "testing" / "vma"
        built = subprocess.run(["make", "-C", str(tests)], capture_output=True, check=False)
        if built.returncode:
            return Result("fail: does not build")
        done = subprocess.run([str(tests / "vma")], capture_output=True, text=True, check=False)
    return result("vma/vma", done.returncode, done.stdout.splitlines())


def run(bases: Sequence[str]) -> int:
    """Compare these bases, and print what came of it; 1 if one has a regression."""
    failed = 0
    for base in bases:
        comparison = compare(base)
        print(f"{base}:\n\n{comparison}\n")
        failed |= bool(comparison.regressions)
    return failed
