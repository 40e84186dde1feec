# SPDX-License-Identifier: Apache-2.0
"""Reproducible archives: they contain nothing about who made them, where or when."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive.

    Attributes:
        name: Its path there, with slashes.
        content: What is in it; of a link, nothing.
        executable: Whether it may be run.
        target: Where it points, if it is a symbolic link.
    """

    name: str
    content: bytes = b""
    executable: bool = False
    target: str = ""


def entry_of(path: Path, name: str, *, follow: bool = False) -> Entry:
    """Return a file as an entry; a symbolic link as one, or what it points to."""
    if path.is_symlink() and not follow:
        return Entry(name, target=str(path.readlink()))
    return Entry(name, path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))


def entries_below(folder: Path, prefix: str) -> Iterator[Entry]:
    """Yield every file and link below a folder, named from ``prefix`` on."""
    for path in folder.rglob("*"):
        if path.is_symlink() or path.is_file():
            yield entry_of(path, f"{prefix}/{path.relative_to(folder).as_posix()}")


def pack(path: Path, entries: Iterable[Entry], epoch_s: int, *, level: int = 9) -> None:
    """Write a gzipped tar, sorted by name, every time in it that of ``epoch_s``."""
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=level, fileobj=file, mtime=epoch_s) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for entry in sorted(entries, key=lambda entry: entry.name):
            tar.addfile(_header(entry, epoch_s), io.BytesIO(entry.content))


def _header(entry: Entry, epoch_s: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(entry.name)
    header.mtime = epoch_s
    header.mode = 0o755 if entry.executable else 0o644
    header.size = len(entry.content)
    if entry.target:
        header.type, header.linkname, header.mode = tarfile.SYMTYPE, entry.target, 0o777
    return header


def unpack(path: Path) -> Iterator[Entry]:
    """Yield every file and symbolic link of a gzipped tar."""
    with tarfile.open(path) as tar:
        for header in tar:
            if header.issym():
                yield Entry(header.name, target=header.linkname)
            elif content := tar.extractfile(header):
                yield Entry(header.name, content.read(), bool(header.mode & 0o100))
