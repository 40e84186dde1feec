# SPDX-License-Identifier: Apache-2.0
"""Install the seccomp profile of the agent where the kubelet looks for it.

The profile is a deny-list: profiles name system calls, and no container runtime knows the
name process_mbind, so a list of what is allowed could never allow it.

Where the kernel has process_mbind(), move_pages() may only tell where pages are. Elsewhere it is
what an agent has to move them with.
"""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path

from memplace_agent.hostfs import HostFs

PROFILE = "agent.json"


def profile(announcement: Path) -> bytes:
    """Return the profile for a node.

    Args:
        announcement: The directory that only a kernel with process_mbind() has.
    """
    whole = files("memplace_agent").joinpath("seccomp.json").read_bytes()
    if announcement.is_dir():
        return whole
    content = json.loads(whole)
    content["syscalls"] = [r for r in content["syscalls"] if r["names"] != ["move_pages"]]
    return json.dumps(content, indent=2).encode()


def install(directory: Path, host: HostFs) -> Path:
    """Write agent.json into a directory, which is made if need be; returns its path.

    Args:
        directory: Where the kubelet looks, as seen from here.
        host: The node that the profile is for.

    It is replaced atomically: a kubelet that starts a pod meanwhile reads the old or the new one.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    target = directory / PROFILE
    temporary = directory / ".agent.json.tmp"
    with temporary.open("wb") as file:
        file.write(profile(host.announcement))
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(0o644)
    temporary.rename(target)
    return target
