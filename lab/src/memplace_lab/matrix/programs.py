# SPDX-License-Identifier: Apache-2.0
"""Programs of others that test mm: the kernel's own selftests, numactl's tests and LTP's.

Nothing of them is kept here: the selftests come with the kernel's source, numactl from
Debian's archive, LTP (which Debian does not have) from the folder that MEMPLACE_LTP names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base import apt, store
from memplace_lab.base.steps import LabError, run
from memplace_lab.machines import kernel

# How many times longer than on hardware a test may take before LTP gives it up
_SLOWER = 4
_SELFTESTS_DIR = "tools/testing/selftests/mm"


@dataclass(frozen=True)
class Test:
    """One program for the machine.

    Attributes:
        name: "suite/test", without blanks.
        command: What a shell in the machine is to run.
        limit_s: When it is ended; a test that takes this long has failed.
    """

    name: str
    command: str
    limit_s: int

    def __str__(self) -> str:
        """Return its line for lab/neighbours/run-this."""
        return f"{self.name}\t{self.limit_s}\t{self.command}"


# mm's selftests that move pages, split, merge or copy VMAs, or read what /proc says of them,
# with their time limit in seconds. A base that does not have one goes without it.
SELFTESTS = {
    **{"migration": 420, "rmap": 300, "ksm_tests": 180, "ksm_functional_tests": 180},
    **{"khugepaged": 600, "uffd-unit-tests": 600, "madv_populate": 120, "mrelease_test": 120},
    **{"mremap_test": 600, "mremap_dontunmap": 60, "mseal_test": 120, "merge": 120},
    **{"process_madv": 120, "guard-regions": 300, "mlock2-tests": 120, "mdwe_test": 60},
    **{"map_fixed_noreplace": 60, "soft-dirty": 180},
}
# Its execv() has no NULL at the end of argv there: what it does next is chance
_UNSOUND = {"6.12": {"ksm_functional_tests"}}
# migration fails if one page could not be moved a hundred times in a row; moving is best effort.
# ksm_tests counts after two scans, and KSM may leave a page out of one: of 450 runs of
# numa-merged under emulation, 42 failed without the series and 41 with it. One case of khugepaged
# (a table full of different compound pages) failed in 2 of 6 runs, with the series and without,
# and one of uffd-unit-tests (events on anonymous memory) in 1 of 10 without it.
_UP_TO_THREE_TIMES = {"migration", "ksm_tests", "khugepaged", "uffd-unit-tests"}
# Maps 2 GiB, of which it touches 4 MiB
_OVERCOMMITS = {"mremap_test"}
_VARIANTS = {"ksm_tests": {"numa-apart": "-N -m 0", "numa-merged": "-N -m 1"}}
# One has a name for a constant of a header that it does not include: see kselftest.h
_FLAGS = ("-O2", "-w", "-U_FORTIFY_SOURCE", "-D_GNU_SOURCE=", "-include", "kselftest.h")
_LIBRARIES = ("-lnuma", "-lpthread", "-lrt", "-lm")

LTP = {
    "mbind": ("mbind01", "mbind02", "mbind03", "mbind04"),
    "set_mempolicy": tuple(f"set_mempolicy0{n}" for n in range(1, 6)),
    "get_mempolicy": ("get_mempolicy01", "get_mempolicy02"),
    "move_pages": tuple(f"move_pages{n:02}" for n in range(1, 13) if n != 8),  # there is no 08
    "migrate_pages": ("migrate_pages01", "migrate_pages02", "migrate_pages03"),
    "process_madvise": ("process_madvise01",),
}


def ltp() -> Path | None:
    """Return the folder with LTP's source, if somebody has one."""
    named = os.environ.get("MEMPLACE_LTP")
    if named and not (Path(named) / "testcases/kernel/syscalls/mbind").is_dir():
        raise LabError(f"MEMPLACE_LTP={named}: the lab's root sees no source of LTP there")
    return Path(named) if named else None


def build_programs(base: str) -> Path:
    """Return a directory for the machine: ``tests``, the list, and the programs it names.

    The selftests are those of the patched source, also for the kernel without the series:
    what is compared is kernels, not programs.
    """
    image, numactl, suite = kernel.build_kernel(base), _numactl(), ltp()
    built = _ltp(suite) if suite else None

    def make(target: Path) -> None:
        tests = list(_selftests(base, image.parent, target / "mm"))
        run("cp", "-a", numactl / "numactl", target / "numactl")
        tests += _numactl_tests(target / "numactl")
        if built:
            run("cp", "-a", built / "bin", target / "ltp")
            tests += _ltp_tests()
        (target / "tests").write_text("".join(f"{test}\n" for test in tests))

    parts = (image.parent.name, numactl.name, built.name if built else "", store.code(__file__))
    kind = f"neighbours-{base}"
    return store.ensure(kind, store.digest(*parts), make, title="programs of mm's neighbours")


def limit_s(tests: Path) -> int:
    """Return how many seconds all tests of a list may take together: two hours at most.

    Each has a limit of its own; this is for a machine that hangs.
    """
    return min(7200, sum(int(line.split("\t")[1]) for line in tests.read_text().splitlines()))


def _selftests(base: str, image: Path, target: Path) -> Iterator[Test]:
    """Compile what there is of `SELFTESTS` as the kernel's own Makefile would."""
    target.mkdir()
    tree = image / "source"
    source = tree / _SELFTESTS_DIR
    system = (image / "headers/usr/include", tree / "tools/include/uapi")
    include = (f"-I{tree}", f"-I{source.parent}", *(f"-isystem{path}" for path in system))
    names = ("vm_util.c", "thp_settings.c", "hugepage_settings.c")
    shared = [source / name for name in names if (source / name).exists()]
    for name, limit in SELFTESTS.items():
        if name in _UNSOUND.get(base, ()) or not (source / f"{name}.c").exists():
            continue
        more = [source / "uffd-common.c"] if name.startswith("uffd-") else []
        files = (source / f"{name}.c", *more, *shared)
        run("gcc", *_FLAGS, *include, *files, *_LIBRARIES, "-o", target / name)
        for variant, args in _VARIANTS.get(name, {"": ""}).items():
            title = f"mm/{name}:{variant}" if variant else f"mm/{name}"
            yield Test(title, _command(name, args), limit)


def _command(name: str, args: str) -> str:
    program = f"./{name} {args}".rstrip()
    if name in _UP_TO_THREE_TIMES:
        program = " || ".join([program] * 3)
    if name in _OVERCOMMITS:
        switch = ">/proc/sys/vm/overcommit_memory"
        program = f"echo 1 {switch}; {program}; status=$?; echo 0 {switch}; exit $status"
    return f"cd /neighbours/mm && {program}"


def _numactl() -> Path:
    """Return a directory with ``numactl``, built with the programs of "make check"."""
    env = apt.environment("source", [apt.sources()[0].replace("deb ", "deb-src ", 1)])

    def make(target: Path) -> None:
        apt.update(env)
        # Debian's archive has upstream's tar; what Debian adds is for packaging
        run("apt-get", "-q", "source", "--tar-only", "numactl", cwd=target, env=env)
        (tar,) = target.glob("numactl_*.tar.*")
        tree = target / "numactl"
        tree.mkdir()
        run("tar", "-xf", tar, "--strip-components=1", "-C", tree)
        log = store.CACHE / "log" / "numactl.log"
        run("autoreconf", "-fi", cwd=tree, log=log)
        # Not shared: a program must not depend on where it was built
        run("./configure", "--disable-shared", cwd=tree, log=log)
        run("make", cwd=tree, log=log)
        run("make", "check", "TESTS=", cwd=tree, log=log)

    key = store.digest("--disable-shared")
    return store.ensure("numactl", key, make, title="numactl and its tests")


def _numactl_tests(tree: Path) -> Iterator[Test]:
    """Return what "make check" would run, with the environment it would give them.

    Not by make itself: in the machine's copy the dates are new, so it would build anew.
    """
    show = ("--no-print-directory", "--eval", "show: ; @echo $(TESTS)", "show")
    for name in run("make", "-s", "-C", tree, *show).split():
        command = f"cd /neighbours/numactl && builddir=. srcdir=. {name}"
        yield Test(f"numactl/{Path(name).name}", command, 1200)


def _ltp(source: Path) -> Path:
    """Return a directory with ``bin``: the programs of `LTP`, from a copy of the source."""

    def make(target: Path) -> None:
        tree, log = target / "tree", store.CACHE / "log" / "ltp.log"
        run("cp", "-a", source, tree)
        run("make", "autotools", cwd=tree, log=log)
        run("./configure", cwd=tree, log=log)
        run("make", "-C", "lib", cwd=tree, log=log)
        run("make", "-C", "libs", cwd=tree, log=log)
        (target / "bin").mkdir()
        for folder, names in LTP.items():
            where = tree / "testcases/kernel/syscalls" / folder
            run("make", "-C", where, log=log)
            for name in names:
                shutil.copy(where / name, target / "bin" / name)
        shutil.rmtree(tree)

    key = store.digest(source, str(LTP))
    return store.ensure("ltp", key, make, title="LTP's tests of memory policies")


def _ltp_tests() -> Iterator[Test]:
    for name in (name for names in LTP.values() for name in names):
        command = f"cd /neighbours/ltp && LTP_TIMEOUT_MUL={_SLOWER} ./{name}"
        yield Test(f"ltp/{name}", command, 300)
