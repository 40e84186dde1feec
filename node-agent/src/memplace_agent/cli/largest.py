# SPDX-License-Identifier: Apache-2.0
"""Which process has most memory, of those that whoever asks may read."""

from __future__ import annotations

import os

from memplace_agent.cli.errors import CommandFailed, Exit
from memplace_agent.hostfs import HostFs


def largest(host: HostFs) -> int:
    """Return the id of the process with most memory of its own, of those of this user.

    Root's are all. We ourselves are left out, and so is what may not be read all the same: the
    first process of a container, say. Memory of its own is anonymous memory: a program with a
    large file mapped is no example of what a rule about heaps does.

    Raises:
        CommandFailed: There is none.

    Source: proc_pid_status(5), RssAnon.
    """
    sizes = {pid: _anonymous(host, pid) for pid in _processes(host) if pid != os.getpid()}
    for pid in sorted(sizes, key=lambda pid: (-sizes[pid], pid)):
        if sizes[pid] and _may_read(host, pid):
            return pid
    raise CommandFailed(
        Exit.NO_PROCESS, "no process of yours has memory: name one with --pid N, or be root"
    )


def _may_read(host: HostFs, pid: int) -> bool:
    try:
        os.close(os.open(host.pid(pid) / "maps", os.O_RDONLY))
    except OSError:
        return False
    return True


def _processes(host: HostFs) -> list[int]:
    return [int(entry.name) for entry in host.proc.iterdir() if entry.name.isdecimal()]


def _anonymous(host: HostFs, pid: int) -> int:
    directory = host.pid(pid)
    try:
        if os.geteuid() not in (0, directory.stat().st_uid):
            return 0
        text = (directory / "status").read_text()
    except OSError:  # it has ended, or is hidden
        return 0
    fields = dict(line.partition(":\t")[::2] for line in text.splitlines())
    return int(fields.get("RssAnon", "0 kB").split()[0])
