# SPDX-License-Identifier: Apache-2.0
"""Install the seccomp profile of the agent where the kubelet looks for it.

The profile is a deny-list: profiles name system calls, and no container runtime knows the
name process_mbind, so a list of what is allowed could never allow it.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

__all__ = ["PROFILE", "install"]

PROFILE = "agent.json"


def install(directory: Path) -> Path:
    """Write agent.json into a directory, which is made if need be; returns its path.

    It appears whole, by rename: a kubelet that starts a pod meanwhile reads the old or new.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    target = directory / PROFILE
    temporary = directory / ".agent.json.tmp"
    with temporary.open("wb") as file:
        file.write(files("memplace_agent").joinpath("seccomp.json").read_bytes())
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(0o644)
    temporary.rename(target)
    return target
