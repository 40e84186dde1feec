# SPDX-License-Identifier: Apache-2.0
"""The definitions of the tree, as objects."""

from __future__ import annotations

from typing import Any

import yaml

from tests.support import ROOT


def load_crds() -> list[dict[str, Any]]:
    """Return the CRDs of the tree."""
    return [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
