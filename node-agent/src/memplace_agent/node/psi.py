# SPDX-License-Identifier: Apache-2.0
"""Read memory pressure (PSI) of the machine and of a cgroup."""

from __future__ import annotations

import re
from pathlib import Path

from memplace_agent.hostfs import HostFs, read_file

_SOME = re.compile(rb"some avg10=(\d+(?:\.\d+)?) ")


def node_pressure(host: HostFs) -> float | None:
    """Return ``some avg10`` of the machine's memory in percent.

    None without PSI: a kernel built without CONFIG_PSI, or booted with psi=0, has no such
    file or answers EOPNOTSUPP.

    Source: linux ``Documentation/accounting/psi.rst``.
    """
    return _some_avg10(host.proc / "pressure/memory")


def cgroup_pressure(cgroup: Path) -> float | None:
    """Return ``some avg10`` of a cgroup's memory in percent.

    None without PSI, with ``cgroup.pressure`` off, and when the cgroup is gone: whoever
    asks notices the end of the processes by other means.
    """
    return _some_avg10(cgroup / "memory.pressure")


def _some_avg10(file: Path) -> float | None:
    try:
        match = _SOME.match(read_file(str(file)))
    except OSError:
        return None
    return float(match[1]) if match else None
