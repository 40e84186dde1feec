# SPDX-License-Identifier: Apache-2.0
"""The cgroup of a container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CgroupRef:
    """A container's cgroup.

    Attributes:
        root: Where the tree is mounted here; the whole of it, as the host or node sees it.
        path: The container's directory, below root.
        pod_uid: Of the pod whose cgroup it is in, with dashes.
    """

    root: Path
    path: Path
    pod_uid: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the directories from the root to the container."""
        return self.path.relative_to(self.root).parts
