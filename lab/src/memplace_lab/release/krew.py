# SPDX-License-Identifier: Apache-2.0
"""kubectl memplace for krew: an archive for each kind of machine, and their manifest.

krew runs what an archive brings, and installs nothing else. So each has the packages that uv.lock
names, for all versions of Python that the command may meet: files of compiled modules have the
version in their names, and lie side by side. Python itself the machine has to have.

Source: https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import yaml

from memplace_lab.base.steps import LabError, run
from memplace_lab.release.archive import Entry, entry_of, pack
from memplace_lab.release.commit import Commit

# As Go calls a machine, and as uv does.
PLATFORMS = {"amd64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROGRAM = "kubectl-memplace"
# Where the files of a release are published; nobody has this address.
NOWHERE = "https://memplace.invalid"
_WHEELS = ("memplace", "memplace_cli")
# What an installer writes about itself, and programs that nobody runs.
_LEFT_OUT = frozenset({"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json", ".lock"})
# Folders with what nobody runs, or what tells of one build.
_FOLDERS_LEFT_OUT = frozenset({"bin", "sboms", "__pycache__"})
# The half of the Kubernetes client that is for asyncio; the command uses the other one.
_UNUSED = "kubernetes/aio/"
# Not in one piece with a licence: tools would take that for this file's own line.
_SPDX = "SPDX-License-Identifier"


def plugin(commit: Commit, out: Path) -> None:
    """Write the archives and ``memplace.yaml``; wheels have to be in ``out`` already.

    The environment variable RELEASE_URL is the address of the folder that has the files.
    """
    launcher = entry_of(commit.tree / "packaging/krew" / PROGRAM, PROGRAM)
    own = [
        launcher,
        entry_of(commit.tree / "LICENSE", "LICENSE"),
        *(entry for name in _WHEELS for entry in _of_wheel(out, name, commit.version)),
    ]
    packages, made = _Packages.of(commit), {}
    for arch, platform in PLATFORMS.items():
        path = out / f"{PROGRAM}-{commit.version}-linux-{arch}.tar.gz"
        # The level of gzip itself: these are large.
        pack(path, [*own, *packages.for_machines(platform)], commit.epoch_s, level=6)
        made[arch] = path
    url = os.environ.get("RELEASE_URL", "") or f"{NOWHERE}/v{commit.version}"
    (out / "memplace.yaml").write_text(manifest(commit.version, url.rstrip("/"), made))


def _of_wheel(out: Path, name: str, version: str) -> Iterator[Entry]:
    (path,) = out.glob(f"{name}-{version}-*.whl")
    with zipfile.ZipFile(path) as zipped:
        for each in zipped.namelist():
            if Path(each).name not in _LEFT_OUT:
                yield Entry(f"lib/{each}", zipped.read(each))


@dataclass(frozen=True, slots=True)
class _Packages:
    """What the command needs, as uv.lock has it.

    Attributes:
        listing: Name, version and hashes of each.
        pure: The files of those that are the same for all machines and versions of Python.
        compiled: The names of the others.
    """

    listing: str
    pure: tuple[Entry, ...]
    compiled: frozenset[str]

    @classmethod
    def of(cls, commit: Commit) -> _Packages:
        listed = ("--no-dev", "--no-emit-workspace", "--no-header", "--no-annotate")
        how = ("--quiet", "--frozen", *listed, "--package", "memplace-cli")
        listing = run("uv", "export", *how, cwd=commit.tree)
        first = next(iter(PLATFORMS.values()))
        files = _installed(listing, PYTHONS[0], first)
        # What only a newer version needs would be left out.
        if missing := set(re.findall(r"^[^\s=]+(?===)", listing, re.MULTILINE)) - files.keys():
            raise LabError(f"not for Python {PYTHONS[0]}: {', '.join(sorted(missing))}")
        compiled = frozenset(name for name, some in files.items() if any(map(_is_compiled, some)))
        pure = (each for name, some in files.items() if name not in compiled for each in some)
        return cls(listing, tuple(pure), compiled)

    def for_machines(self, platform: str) -> list[Entry]:
        """Return the files for one kind of machine."""
        # Requirements begin in the first column; their hashes are on the lines below.
        each = re.split(r"^(?=\S)", self.listing, flags=re.MULTILINE)
        listing = "".join(one for one in each if one.partition("==")[0] in self.compiled)
        found = {entry.name: entry for entry in self.pure}
        for python in PYTHONS:
            for entry in chain(*_installed(listing, python, platform).values()):
                if found.setdefault(entry.name, entry) != entry:
                    raise LabError(f"{entry.name} differs between versions of Python")
        return list(found.values())


def _installed(listing: str, python: str, platform: str) -> dict[str, list[Entry]]:
    """Return the files of packages by name, as a version of Python on a machine needs them."""
    # By hash: as uv.lock has them, whoever serves them.
    how = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile-bytecode")
    found: dict[str, list[Entry]] = {}
    with tempfile.TemporaryDirectory(prefix="memplace-krew.") as folder:
        target, wanted = Path(folder, "lib"), Path(folder, "requirements.txt")
        wanted.write_text(listing)
        what = ("--python-version", python, "--python-platform", platform, "-r", wanted)
        where = ("--python", sys.executable, "--target", target)
        run("uv", "pip", "install", "--quiet", *how, *what, *where)
        for papers in target.glob("*.dist-info"):
            name = papers.name.partition("-")[0].replace("_", "-").lower()
            lines = csv.reader((papers / "RECORD").read_text().splitlines())
            paths = (target / line[0] for line in lines)
            found[name] = [_entry(path, target) for path in paths if _is_wanted(path, target)]
    return found


def _entry(path: Path, target: Path) -> Entry:
    return Entry(f"lib/{path.relative_to(target).as_posix()}", path.read_bytes())


def _is_wanted(path: Path, target: Path) -> bool:
    below = path.relative_to(target)
    return not (
        ".." in below.parts
        or path.name in _LEFT_OUT
        or _FOLDERS_LEFT_OUT.intersection(below.parts)
        or below.as_posix().startswith(_UNUSED)
    )


def _is_compiled(entry: Entry) -> bool:
    return ".so" in Path(entry.name).suffixes


def manifest(version: str, url: str, archives: dict[str, Path]) -> str:
    """Return krew's manifest.

    Args:
        version: Of the release.
        url: The address of the folder with its files.
        archives: By Go's name of the machine.
    """
    platforms = [
        {
            "selector": {"matchLabels": {"os": "linux", "arch": arch}},
            "uri": f"{url}/{path.name}",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bin": PROGRAM,
        }
        for arch, path in archives.items()
    ]
    oldest, newest = PYTHONS[0], PYTHONS[-1]
    spec = {
        "version": f"v{version}",
        "homepage": url,
        "shortDescription": "Show and control where pods' memory is placed",
        "description": (
            "Shows on which memory tiers (DRAM, CXL, HBM) the memory of pods is, and why. Plans "
            "placements before they are applied; pauses and undoes them. The cluster has to run "
            "memplace."
        ),
        "caveats": (
            f"Needs Python {oldest} to {newest} as python3 on the path, and glibc 2.28 or later."
        ),
        "platforms": platforms,
    }
    whole = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "memplace"},
        "spec": spec,
    }
    return f"# {_SPDX}: Apache-2.0\n" + yaml.safe_dump(whole, sort_keys=False)
