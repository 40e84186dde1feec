# SPDX-License-Identifier: Apache-2.0
"""Parse /proc/PID/numa_maps: the policy of each mapping and where its pages are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from memplace.errors import ParseError
from memplace.kinds import Mode, Policy
from memplace.nodes import format_nodes, parse_nodes

# linux mm/mempolicy.c:policy_modes[]
_MODES = {
    "default": Mode.DEFAULT,
    "prefer": Mode.PREFERRED,
    "bind": Mode.BIND,
    "interleave": Mode.INTERLEAVE,
    "weighted interleave": Mode.WEIGHTED_INTERLEAVE,
    "local": Mode.LOCAL,
    "prefer (many)": Mode.PREFERRED_MANY,
}
_NAMES = {mode: name for name, mode in _MODES.items()}
_FLAGS = frozenset({"static", "relative", "balancing"})

_POLICY = re.compile(
    r"(?P<mode>prefer \(many\)|weighted interleave|[a-z]+)"
    r"(?:=(?P<flags>[a-z|]+))?(?::(?P<nodes>[0-9,-]+))?",
    re.ASCII,
)
_LINE = re.compile(
    rf"(?P<start>[0-9a-f]+) (?P<policy>{_POLICY.pattern})(?: (?!\()(?P<rest>.*))?",
    re.ASCII | re.DOTALL,
)
_ADDRESS = re.compile(r"[0-9a-f]+", re.ASCII)
_PAGES = re.compile(r"N(\d{1,4})=(\d{1,20})", re.ASCII)
_PAGE_SIZE = re.compile(r"kernelpagesize_kB=(\d{1,20})", re.ASCII)
_HOME = " home:"
_DEFAULT_PAGE = 4096
_LARGEST_PAGE = 1 << 30

# show_numa_map() formats the policy into 64 bytes: text of 63 characters may be cut off.
_POLICY_ROOM = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaMapping:
    """One line of numa_maps.

    Attributes:
        start: First address of the VMA.
        policy: Its own policy, or the task's where it has none.
        policy_is_whole: False when the kernel may have cut the list of nodes off.
        page_size: Bytes of the pages that are counted.
        pages: Resident bytes per NUMA node, each more than 0.
        huge: A hugetlbfs mapping.
    """

    start: int
    policy: Policy
    policy_is_whole: bool = True
    page_size: int = _DEFAULT_PAGE
    pages: Mapping[int, int] = field(default_factory=dict)
    huge: bool = False


def parse_numa_maps(text: str) -> tuple[NumaMapping, ...]:
    """Parse ``/proc/<pid>/numa_maps`` into one record per VMA.

    Args:
        text: The whole file as read in one open; reading in pieces may tear.

    Returns:
        Mappings in ascending address order. The file counts pages in units of
        ``kernelpagesize_kB``; here they are bytes.

    Raises:
        ParseError: A line has no address, or a policy that no kernel prints.

    Source: proc_pid_numa_maps(5); linux ``fs/proc/task_mmu.c:show_numa_map()``.
    """
    alike: dict[str, NumaMapping] = {}
    return tuple(_like(alike, line, number) for number, line in enumerate(_lines(text), start=1))


def _lines(text: str) -> Iterator[str]:
    # One at a time: there may be a million.
    at, end = 0, len(text.removesuffix("\n"))
    while at <= end and text:
        stop = text.find("\n", at, end)
        stop = end if stop < 0 else stop
        yield text[at:stop]
        at = stop + 1


def _like(alike: dict[str, NumaMapping], line: str, number: int) -> NumaMapping:
    # Lines that differ in their address only share all else.
    address, _, rest = line.partition(" ")
    like = alike.get(rest)
    if like is None or not _ADDRESS.fullmatch(address):
        like = alike[rest] = _checked(line, number)
        return like
    return NumaMapping(
        start=int(address, 16),
        policy=like.policy,
        policy_is_whole=like.policy_is_whole,
        page_size=like.page_size,
        pages=like.pages,
        huge=like.huge,
    )


def _checked(line: str, number: int) -> NumaMapping:
    try:
        return _numa_mapping(line)
    except ParseError as err:
        raise ParseError(err.what, line, path="numa_maps", line_no=number) from err


def _numa_mapping(line: str) -> NumaMapping:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ParseError("mapping", line)
    # Blanks of a path are escaped in this file (seq_path()), so each blank ends a field.
    fields = (match["rest"] or "").split(" ")
    page_size = _page_size(fields)
    text, whole = match["policy"], len(match["policy"]) < _POLICY_ROOM
    return NumaMapping(
        start=int(match["start"], 16),
        # What comes last may be a half of a number, or of a range.
        policy=parse_policy(text if whole else text.rpartition(",")[0] or text),
        policy_is_whole=whole,
        page_size=page_size,
        pages=_pages(fields, page_size),
        huge="huge" in fields,
    )


def _page_size(fields: list[str]) -> int:
    size = _PAGE_SIZE.fullmatch(fields[-1])
    if size:
        return int(size[1]) * 1024
    # A mapping without pages has no page size here; a cut at the largest one fits each.
    return _LARGEST_PAGE if "huge" in fields else _DEFAULT_PAGE


def _pages(fields: list[str], page_size: int) -> dict[int, int]:
    found = (_PAGES.fullmatch(text) for text in fields)
    return {int(match[1]): int(match[2]) * page_size for match in found if match}


# Texts that tenants choose, so not without a bound.
@lru_cache(maxsize=4096)
def parse_policy(text: str) -> Policy:
    """Parse a policy as the kernel prints it, such as ``prefer (many)=static:0-1``.

    Raises:
        ParseError: Not such a text.

    Source: linux ``mm/mempolicy.c:mpol_to_str()``.
    """
    match = _POLICY.fullmatch(text)
    mode = _MODES.get(match["mode"]) if match else None
    flags = frozenset((match["flags"] or "").split("|")) - {""} if match else frozenset()
    if match is None or mode is None or not flags <= _FLAGS:
        raise ParseError("memory policy", text)
    return Policy(mode, parse_nodes((match["nodes"] or "").rstrip(",-")), flags)


def format_policy(policy: Policy) -> str:
    """Format a policy the way the kernel prints it; the inverse of `parse_policy`."""
    # The kernel's order, which is also the reverse of the alphabet.
    flags = f"={'|'.join(sorted(policy.flags, reverse=True))}" if policy.flags else ""
    nodes = f":{format_nodes(policy.nodes)}" if policy.nodes else ""
    return f"{_NAMES[policy.mode]}{flags}{nodes}"


def parse_policy_and_home(text: str) -> tuple[Policy, int | None]:
    """Parse a policy such as ``prefer (many)=static:0,2-5 home:2``, and its home node.

    Raises:
        ParseError: Not such a text.

    Source: process_mbind(2) of memplace's kernel patches; linux ``mm/mempolicy.c``.
    """
    policy, home, node = text.partition(_HOME)
    if not home:
        return parse_policy(policy), None
    if not (node.isascii() and node.isdecimal() and len(node) <= 4):
        raise ParseError("home node", text)
    return parse_policy(policy), int(node)
