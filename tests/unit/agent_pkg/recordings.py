# SPDX-License-Identifier: Apache-2.0
"""Recorded maps of real programs: read what `tests/maps/record.py` writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memplace.regions import Region
from memplace_agent.procfs.kinds import is_special, kind_of, thread_stacks

from tests.support.agent.maps import parse_maps

FOLDER = Path(__file__).parent / "data" / "maps"
# fs/proc/task_mmu.c:show_vma_header_prefix() and seq_pad(): where the path begins
_PATH_COLUMN = 73


@dataclass(frozen=True, slots=True)
class Recorded:
    """One mapping, as `memplace_agent.procfs.kinds.Mapped`."""

    start: int
    end: int
    permissions: str
    shared: bool
    inode: int
    path: str
    flags: str


@dataclass(frozen=True, slots=True)
class Recording:
    """A process that was stopped while it was read.

    Attributes:
        program: Name and version.
        comm: Of the process.
        exe: Its executable.
        threads: Name and stack pointer of each thread, the main one first.
        maps: The text of /proc/PID/maps.
        mappings: Its lines, with VmFlags of smaps.
    """

    program: str
    comm: str
    exe: str
    threads: tuple[tuple[str, int], ...]
    maps: str
    mappings: tuple[Recorded, ...]

    @property
    def pointers(self) -> tuple[int, ...]:
        return tuple(pointer for _, pointer in self.threads)

    def mapping_at(self, address: int) -> Recorded | None:
        """The mapping with this address in it."""
        return next((m for m in self.mappings if m.start <= address < m.end), None)

    def regions(self) -> list[Region]:
        """Its regions, as the agent has them."""
        stacks = thread_stacks(self.mappings, self.pointers)
        return [
            Region(
                start=mapping.start,
                end=mapping.end,
                kind=kind_of(mapping, stacks),
                permissions=mapping.permissions,
                shared=mapping.shared,
                name=mapping.path.removeprefix("[anon:").removesuffix("]")
                if mapping.path.startswith("[anon:")
                else "",
                path=mapping.path.removesuffix(" (deleted)")
                if mapping.path.startswith("/")
                else "",
                special=is_special(mapping),
            )
            for mapping in self.mappings
        ]


def names() -> list[str]:
    """The recordings there are."""
    return sorted(file.stem for file in FOLDER.glob("*.txt"))


def load(name: str) -> Recording:
    """Read one of them."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8", errors="surrogateescape")
    head, _, body = text.partition("\nmaps\n")
    items = [line.split(" ", 1) for line in head.splitlines()]
    one = {key: value for key, value in items if key in ("program", "comm", "exe")}
    flags = dict(value.split(" ", 1) for key, value in items if key == "flags")
    threads = [value.split(" ", 1) for key, value in items if key == "thread"]
    lines = [line.split(" ", 1) for line in body.splitlines()]
    maps = "".join(_unsqueezed(line) for _, line in lines)
    return Recording(
        **one,
        threads=tuple((name, int(pointer, 16)) for pointer, name in threads),
        maps=maps,
        mappings=tuple(_recorded(maps, [flags[letter] for letter, _ in lines])),
    )


def _unsqueezed(line: str) -> str:
    fields = line.split(" ", 5)
    path = fields.pop() if len(fields) == 6 else ""
    head = " ".join(fields)
    return f"{head.ljust(_PATH_COLUMN - 1)} {path}\n" if path else f"{head} \n"


def _recorded(maps: str, flags: list[str]) -> Iterator[Recorded]:
    for line, mapping, known in zip(maps.splitlines(), parse_maps(maps), flags, strict=True):
        yield Recorded(
            start=mapping.start,
            end=mapping.end,
            permissions=line.split(" ", 2)[1][:3],
            shared=mapping.shared,
            inode=mapping.inode,
            path=mapping.path,
            flags=known,
        )
