# SPDX-License-Identifier: Apache-2.0
"""The definitions of the tree, as objects."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from tests.support import ROOT


def load_crds() -> list[dict[str, Any]]:
    """Return the CRDs of the tree."""
    return [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]


@cache
def times() -> frozenset[str]:
    """Return the names of all fields that are a time."""
    return frozenset(_times(load_crds()))


def _times(found: Any) -> Iterator[str]:
    for key, child in found.items() if isinstance(found, dict) else enumerate(found):
        if isinstance(child, dict) and child.get("format") == "date-time":
            yield str(key)
        elif isinstance(child, dict | list):
            yield from _times(child)
