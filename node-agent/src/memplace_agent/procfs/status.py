# SPDX-License-Identifier: Apache-2.0
"""Parse /proc/PID/status: name, state, nodes, threads, and the default for mappings to come."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memplace.errors import ParseError
from memplace.kinds import Policy
from memplace.nodes import NumaSet, parse_nodes

from memplace_agent.procfs.numa_maps import parse_policy_and_home

_ENDED = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class FutureDefault:
    """The policy of private anonymous mappings still to come (MPOL_MF_FUTURE).

    Attributes:
        policy: The policy.
        home_node: Its home node, None without one.
        least: Bytes of the smallest mmap() that gets it; 0 is any.
        kept_across_exec: MPOL_MF_FUTURE_EXEC.
    """

    policy: Policy
    home_node: int | None = None
    least: int = 0
    kept_across_exec: bool = False

    @property
    def whole_policy(self) -> Policy:
        """The policy with its home node."""
        return replace(self.policy, home_node=self.home_node)


@dataclass(frozen=True, slots=True)
class Status:
    """What the agent needs of it.

    Attributes:
        name: The name of the first thread (comm), at most 15 bytes.
        state: Its state, one letter; Z and X have ended.
        threads: How many threads there are, an ended first one included.
        allowed: Nodes that the process may use (Mems_allowed_list).
        resident: Bytes in memory of it, all kinds; 0 without an address space.
        page_tables: Bytes of its page tables; 0 without an address space.
        has_memory: It has an address space: neither it ended nor is it a thread of the kernel.
        future_brk: The default for the heap of brk(), None without one.
        future_mmap: The default for mmap(), None without one.
    """

    name: str
    state: str
    threads: int
    allowed: NumaSet
    resident: int
    page_tables: int
    has_memory: bool
    future_brk: FutureDefault | None
    future_mmap: FutureDefault | None

    @property
    def leader_exited(self) -> bool:
        """Whether the first thread has ended and others run on."""
        return self.state in _ENDED and self.threads > 1


def parse_status(text: str) -> Status:
    """Parse ``/proc/<pid>/status``.

    Raises:
        ParseError: A field that each kernel has is missing, or no field has its form.

    Source: proc_pid_status(5); for Mpol_future process_mbind(2) of memplace's kernel patches.
    """
    fields = dict(line.partition(":\t")[::2] for line in text.split("\n"))
    try:
        both = _default(fields.get("Mpol_future"))
        return Status(
            name=_unescape(fields["Name"]),
            state=fields["State"][:1],
            threads=int(fields["Threads"]),
            allowed=parse_nodes(fields.get("Mems_allowed_list", "0")),
            resident=_bytes(fields.get("VmRSS", "0 kB")),
            page_tables=_bytes(fields.get("VmPTE", "0 kB")),
            has_memory="VmSize" in fields,
            future_brk=both or _default(fields.get("Mpol_future_brk")),
            future_mmap=both or _default(fields.get("Mpol_future_mmap")),
        )
    except (KeyError, ValueError) as err:
        raise ParseError("/proc/PID/status", text) from err


def _unescape(name: str) -> str:
    # linux fs/proc/array.c:proc_task_name() escapes newline and backslash.
    return name.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")


def _bytes(text: str) -> int:
    return int(text.removesuffix("kB")) * 1024


def _default(text: str | None) -> FutureDefault | None:
    """Parse such as ``prefer (many):1 home:1 min:65536 exec``."""
    if text is None:
        return None
    rest, least = text, 0
    kept = rest.endswith(" exec")
    rest = rest.removesuffix(" exec")
    before, mark, number = rest.rpartition(" min:")
    if mark:
        rest, least = before, int(number)
    policy, home = parse_policy_and_home(rest)
    return FutureDefault(policy, home, least, kept)
