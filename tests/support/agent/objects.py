# SPDX-License-Identifier: Apache-2.0
"""Shared objects of the machine of text files: policies that are in force for all who map one."""

from __future__ import annotations


class SharedPolicies:
    """Of each object ranges with a policy, as `mpol_set_shared_policy` keeps them."""

    def __init__(self):
        self._of = {}

    def set(self, of, first, last, policy):
        cut = [
            (low, high, known)
            for start, end, known in self._of.get(of, ())
            for low, high in ((start, min(end, first)), (max(start, last), end))
            if low < high
        ]
        self._of[of] = sorted([*cut, *([(first, last, policy)] if policy else [])])

    def at(self, of, offset):
        found = (p for start, end, p in self._of.get(of, ()) if start <= offset < end)
        return next(found, None)

    def ranges(self, of):
        return self._of.get(of, [])


def in_object(vma):
    """Return whether it maps a file of tmpfs, shared or not; its devices have no major number."""
    is_file = vma.perms.endswith("s") or bool(vma.inode)
    return is_file and vma.device[0] == 0 and vma.page_size == 4096


def is_same_object(vma, other):
    return (vma.device, vma.inode) == (other.device, other.inode) and bool(vma.inode)


def moved_part(vma, low, high, node):
    parts = (vma.part(vma.start, low), vma.part(low, high), vma.part(high, vma.end))
    before, middle, after = (part.runs for part in parts)
    middle = tuple((node if at >= 0 else at, count) for at, count in middle)
    runs = [run for run in (*before, *middle, *after) if run[1]]
    return vma.with_runs(runs)
