# SPDX-License-Identifier: Apache-2.0
"""How much an agent remembers, in all of its tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from memplace_agent.containers.index import CgroupIndex

# The agent's own classes, and those of the core that keep something for it.
_OURS = ("memplace_agent", "memplace.")


def tables(root: Any) -> dict[str, int]:
    """Return how many entries each table has of what is made of our own classes, by its place.

    A table within a table counts in its place, with the key that it is under.
    """
    found: dict[str, int] = {}
    seen: dict[int, Any] = {}
    todo = deque([("", root)])
    while todo:
        place, thing = todo.popleft()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        # Which cgroups there are, as of the last walk, says nothing of processes.
        if isinstance(thing, CgroupIndex):
            continue
        if isinstance(thing, dict | set | list | deque):
            found[place] = len(thing)
            todo.extend((f"{place}[{key}]", value) for key, value in _ours_in(thing))
        if _is_ours(thing):
            todo.extend((f"{place}.{name}", value) for name, value in _members(thing))
    return found


def _ours_in(table: Any) -> Iterable[tuple[Any, Any]]:
    pairs = table.items() if isinstance(table, dict) else enumerate(table)
    return [(key, value) for key, value in pairs if _is_ours(value)]


def _is_ours(thing: Any) -> bool:
    return type(thing).__module__.startswith(_OURS)


def _members(thing: Any) -> Iterator[tuple[str, Any]]:
    names = {name for each in type(thing).__mro__ for name in getattr(each, "__slots__", ())}
    names |= getattr(thing, "__dict__", {}).keys()
    return ((name, getattr(thing, name)) for name in sorted(names) if hasattr(thing, name))
