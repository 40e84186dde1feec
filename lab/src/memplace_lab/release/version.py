# SPDX-License-Identifier: Apache-2.0
"""The version: which files contain it, and how to raise it.

The source is ``memplace.__version__``. Programs read it from there; files that no program of ours
reads repeat it, and are written here.

    python3 -m memplace_lab version 0.2.0
"""

from __future__ import annotations

import re
from pathlib import Path

from memplace_lab.base.steps import LabError

SOURCE = "core/src/memplace/__init__.py"
# Files that tell the version, and where in them: what stands before it on its line.
PLACES = (
    (SOURCE, r'__version__ = "'),
    ("operator/pyproject.toml", r'version = "'),
    ("operator/pyproject.toml", r'dependencies = \["memplace=='),
    ("node-agent/pyproject.toml", r'version = "'),
    ("node-agent/pyproject.toml", r'dependencies = \["memplace=='),
    ("cli/pyproject.toml", r'version = "'),
    ("cli/pyproject.toml", r'dependencies = \["memplace=='),
    ("lab/pyproject.toml", r'version = "'),
    ("charts/memplace/Chart.yaml", r"version: "),
    ("charts/memplace/Chart.yaml", r"appVersion: "),
    ("Dockerfile", r"ARG VERSION="),
    ("CITATION.cff", r"version: "),
)
# As Helm, Python and OCI all take it; what they call a pre-release differs.
_VERSION = r"\d+\.\d+\.\d+"


def told(tree: Path) -> str:
    """Return the version that the source of a checkout tells."""
    return _find(tree / SOURCE, PLACES[0][1]).group(2)


def write(tree: Path, version: str) -> None:
    """Write a version into every place of a checkout.

    Raises:
        LabError: It is not of the form ``1.2.3``, or a place is not there; nothing is written then.
    """
    if not re.fullmatch(_VERSION, version):
        raise LabError(f"{version!r} is no version: write three numbers, like 0.2.0")
    found = [_find(tree / file, before) for file, before in PLACES]
    for (file, before), _ in zip(PLACES, found, strict=True):
        path = tree / file
        pattern = re.compile(f"^({before}){_VERSION}", re.M)
        path.write_text(pattern.sub(rf"\g<1>{version}", path.read_text(), count=1))


def _find(path: Path, before: str) -> re.Match[str]:
    found = re.search(f"^({before})({_VERSION})", path.read_text(), re.M)
    if found is None:
        raise LabError(f"{path} tells no version: no line of it begins with {before}1.2.3")
    return found
