# SPDX-License-Identifier: Apache-2.0
"""Remove what memplace left on the host, and make it again.

The journal directory is mounted into the agent's container, the profile's directory not
even that. A directory can't be removed through a mount of it, so all this goes through the
root of the host's process 1.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from memplace_agent import seccomp
from memplace_agent.hostfs import HostFs


def has_profile(host: HostFs) -> bool:
    """Return whether the agent's seccomp profile lies on the host."""
    return (host.on_host(host.seccomp) / seccomp.PROFILE).exists()


def restore_profile(host: HostFs) -> None:
    """Write the profile that a retirement removed.

    An init container wrote it first, and those do not run again when the agent's container is
    restarted: without the file that restart would fail until somebody deletes the pod.

    Raises:
        OSError: It can't be written.
    """
    seccomp.install(host.on_host(host.seccomp), host)


def remove_host_files(host: HostFs) -> None:
    """Remove the journal directory and the seccomp profile with its directory.

    Files that are not memplace's stay, and then their directory does.

    Raises:
        PermissionError: The agent lacks CAP_SYS_PTRACE or does not run as root.
    """
    for file in _own_files(host):
        file.unlink(missing_ok=True)
    for directory in (host.journal, host.seccomp):
        _remove(host.on_host(directory))


def _remove(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError as err:
        # Gone: an earlier try got this far. Not empty: someone else has files there.
        if err.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def _own_files(host: HostFs) -> list[Path]:
    journal, profiles = host.on_host(host.journal), host.on_host(host.seccomp)
    os.stat(host.on_host(Path("/")))  # noqa: PTH116  fails loudly where glob() finds nothing
    return [*journal.glob("*.json"), *journal.glob(".*.tmp"), profiles / seccomp.PROFILE]


def journal_directory(host: HostFs) -> Path:
    """Return where the journal is to be kept.

    After a retirement the mounted directory is one that was removed: nothing can be made in
    it. The host's path, made again, serves until the pod is restarted.
    """
    with contextlib.suppress(FileNotFoundError):
        if host.journal.stat().st_nlink == 0:
            return host.on_host(host.journal)
    return host.journal
