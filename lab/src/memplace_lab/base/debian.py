# SPDX-License-Identifier: Apache-2.0
"""Root file systems of Debian packages: whole ones for machines, a few files for images."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from memplace_lab.base import apt, store
from memplace_lab.base.steps import run

SUITE = "trixie"
MERGED_USR = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
ACCOUNTS = "root:x:0:0:root:/:/nonexistent\nnonroot:x:65532:65532:nonroot:/:/nonexistent\n"
GROUPS = "root:x:0:\nnonroot:x:65532:\n"


def read_list(file: Path) -> list[str]:
    """Return the lines of a list file without comments and blank lines."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def ensure_root_tar(kind: str, packages: Sequence[str], *, title: str) -> Path:
    """Return the tar of a Debian with these packages, beside the essential ones.

    ``kind`` names it in the cache; it is made anew when the packages are others.
    """

    def make(target: Path) -> None:
        run(
            *("mmdebstrap", "--mode=root", "--variant=minbase", "--quiet"),
            '--aptopt=APT::Install-Recommends "false"',
            *(f"--include={','.join(packages)}", SUITE),
            target / "root.tar",
            *apt.sources(),
            log=store.CACHE / "log" / f"{kind}.log",
        )

    return store.ensure(kind, store.digest(*packages), make, title=title) / "root.tar"


def extract(
    packages: Sequence[str],
    root: Path,
    *,
    sources: Sequence[str],
    variant: str = "extract",
    ca_bundle: Path | None = None,
) -> None:
    """Unpack packages and what they need into the new folder ``root``.

    Variant "extract" runs no package script and keeps the .deb files.
    """
    listing = root.with_suffix(".list")
    listing.write_text("\n".join(sources) + "\n")
    options = ["--mode=root", f"--variant={variant}", "--format=directory"]
    options += ['--aptopt=APT::Install-Recommends "false"', f"--include={','.join(packages)}"]
    if ca_bundle:
        options += [f'--aptopt=Acquire::https::CAInfo "{ca_bundle}"']
    if variant == "extract":
        options += ["--skip=cleanup/apt"]
    run("mmdebstrap", *options, SUITE, root, listing)
    merge_usr(root)


def merge_usr(root: Path) -> None:
    """Add the links /bin to /lib64 that no package of today's Debian contains."""
    for link, target in MERGED_USR.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        if not (root / link).is_symlink():
            (root / link).symlink_to(target)


def select_files(full: Path, patterns: Sequence[str]) -> set[Path]:
    """Return the files and links below ``full`` a keep list selects, relative."""
    kept: set[Path] = set()
    for pattern in patterns:
        for found in full.glob(pattern.removeprefix("!")):
            below = found.rglob("*") if found.is_dir() and not found.is_symlink() else [found]
            paths = {
                path.relative_to(full) for path in below if path.is_symlink() or path.is_file()
            }
            kept = kept - paths if pattern.startswith("!") else kept | paths
    return kept


def find_libraries(full: Path, files: Iterable[Path]) -> set[Path]:
    """Return the shared libraries the files load, as the root's own loader finds them."""
    (loader,) = {path.resolve() for path in full.glob("usr/lib*/ld-linux-*.so.*")}
    inside = f"/{loader.relative_to(full.resolve())}"
    found: set[Path] = set()
    for file in files:
        with (full / file).open("rb") as binary:
            if (
                (full / file).is_symlink()
                or binary.read(4) != b"\x7fELF"
                or file.name == loader.name
            ):
                continue
        for line in run("chroot", full, inside, "--list", f"/{file}").splitlines():
            if "=> /" in line:
                name = Path(line.split()[2].lstrip("/"))
                name = name if name.parts[0] == "usr" else "usr" / name
                found |= {name, (full / name).resolve().relative_to(full.resolve())}
    return found


def copy_files(full: Path, files: set[Path], root: Path) -> None:
    """Copy files into a minimal root, with accounts and the packages' papers.

    The packages' control data goes to var/lib/dpkg/status.d, where vulnerability
    scanners look for it in images without dpkg.
    """
    owned: dict[str, Path] = {}
    for deb in sorted((full / "var/cache/apt/archives").glob("*.deb")):
        listing = run("dpkg-deb", "--contents", deb)
        names = {line.split()[5].removeprefix("./") for line in listing.splitlines()}
        if names & {str(file) for file in files}:
            owned[run("dpkg-deb", "--field", deb, "Package").strip()] = deb
    papers = {Path(f"usr/share/doc/{name}/copyright") for name in owned}
    for file in sorted(files | {paper for paper in papers if (full / paper).exists()}):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(full / file, root / file, follow_symlinks=False)
    (root / "var/lib/dpkg/status.d").mkdir(parents=True)
    for name, deb in owned.items():
        (root / "var/lib/dpkg/status.d" / name).write_text(run("dpkg-deb", "--field", deb))
    merge_usr(root)
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text(ACCOUNTS)
    (root / "etc/group").write_text(GROUPS)
