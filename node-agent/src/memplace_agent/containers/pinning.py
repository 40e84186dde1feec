# SPDX-License-Identifier: Apache-2.0
"""Pin a process of a container for as long as something is done with it.

A pid from cgroup.procs names whatever process has it now. So a pidfd is opened first; then
the process's cgroup is read, and whether the pidfd's process lives is asked last. If so, the
pidfd is a process of the container, and stays that however pids are used later.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memplace.errors import ProcessGone

from memplace_agent.containers.identity import Identities
from memplace_agent.hostfs import HostFs
from memplace_agent.syscalls import Kernel, PidFd

# Whether a pid is in a container now: `containers.members.member_test`.
IsMember = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Pinned:
    """A process that can't be mistaken for another.

    Attributes:
        pid: Its id.
        identity: What no other process of this boot has.
        pidfd: Open while it is pinned.
    """

    pid: int
    identity: int
    pidfd: PidFd


@dataclass(frozen=True, slots=True)
class Pinner:
    """Pins processes of one node."""

    host: HostFs
    kernel: Kernel
    identities: Identities

    @contextlib.contextmanager
    def pin(self, pid: int, is_member: IsMember, identity: int | None = None) -> Iterator[Pinned]:
        """Pin a process for the length of the context.

        Args:
            pid: As listed.
            is_member: Reads again whether it is in the container.
            identity: Whom it has to be, None for whoever it is.

        Raises:
            ProcessGone: It ended, its id belongs to another process, or it left the cgroup.
        """
        pidfd = self.kernel.pidfd_open(pid)
        try:
            known = self.identities.of(self.host, pidfd, pid, self.kernel)
            is_same = identity in (None, known) and is_member(pid)
            if not is_same or not self.kernel.is_alive(pidfd):
                raise ProcessGone("the pid belongs to another process by now")
            yield Pinned(pid, known, pidfd)
        finally:
            os.close(pidfd)

    @contextlib.contextmanager
    def pidfd(self, pid: int, is_member: IsMember, identity: int) -> Iterator[PidFd]:
        """Pin as `pin` does, for those who need nothing but the descriptor."""
        with self.pin(pid, is_member, identity) as pinned:
            yield pinned.pidfd
