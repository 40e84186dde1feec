# SPDX-License-Identifier: Apache-2.0
"""The directory on a tmpfs in which one agent at a time keeps what must survive its end.

A file appears whole, by rename, with mode 0600 in a directory of mode 0700. The lock on the
directory is the kernel's: it ends with the agent, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
from pathlib import Path

log = logging.getLogger(__name__)


class LockedDirectory:
    """A directory that is this agent's for as long as it has it open.

    Attributes:
        boot_id: Of this boot; what was written before another one is void.
    """

    def __init__(self, handle: int, boot_id: str) -> None:
        self._handle = handle
        self.boot_id = boot_id

    @classmethod
    def open(cls, path: Path, boot_id: str) -> LockedDirectory:
        """Make the directory if need be, and lock it.

        Raises:
            BlockingIOError: It is locked. Nothing was changed.
            OSError: It can't be made or opened.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(handle, 0o700)
        except BaseException:
            os.close(handle)
            raise
        return cls(handle, boot_id)

    @property
    def is_open(self) -> bool:
        """Whether it was not given up yet."""
        return self._handle >= 0

    def close(self) -> None:
        """Let another agent have it."""
        os.close(self._handle)
        self._handle = -1

    def names(self) -> list[str]:
        """Return the names of all that is in it, sorted.

        Raises:
            OSError: It can't be listed.
        """
        with os.scandir(self._handle) as entries:
            return sorted(entry.name for entry in entries)

    def read(self, name: str, largest: int) -> bytes:
        """Return what is in a file.

        Args:
            name: The file's.
            largest: Bytes that it may have.

        Raises:
            OSError: It can't be read, is no regular file (EISDIR), or has more (EFBIG).
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, dir_fd=self._handle), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "not a regular file", name)
            if status.st_size > largest:
                raise OSError(errno.EFBIG, "too large", name)
            os.fchmod(file.fileno(), 0o600)
            return file.read()

    def replace(self, name: str, data: bytes) -> None:
        """Have a file say this, as a whole: it survives the end of this agent.

        Raises:
            OSError: It could not be written, for example ENOSPC. What it said before it says.
        """
        temporary, here = f".{name}.tmp", self._handle
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=here), "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, name, src_dir_fd=here, dst_dir_fd=here)
            os.fsync(here)
        except OSError:
            # Room for others: what is half written is of no use.
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=here)
            raise

    def remove(self, name: str) -> None:
        """Remove a file, if it is there; that it can't be is logged."""
        try:
            os.unlink(name, dir_fd=self._handle)
        except FileNotFoundError:
            pass
        except OSError as err:
            extra = {"file": name[:255], "error": err.strerror}
            log.warning("a file of the ledger can't be removed", extra=extra)
