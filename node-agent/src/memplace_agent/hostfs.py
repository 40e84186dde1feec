# SPDX-License-Identifier: Apache-2.0
"""Every path of the host, built from configured roots; tests give roots of their own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from memplace.errors import ProcessGone

# More than /proc/PID/status has. Of a file of many lines the kernel gives some 4 KiB at a time.
_AT_ONCE = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFs:
    """Where the host's file systems are seen from here.

    Attributes:
        proc: procfs of the host's pid namespace.
        sysfs: sysfs.
        cgroup: The root of the cgroup tree.
        journal: The journal directory as this container mounts it.
        seccomp: The directory of the seccomp profile, as the host names it.
        own_cgroup: The agent's own cgroup: the root of what a container sees of the tree.
    """

    proc: Path = Path("/proc")
    sysfs: Path = Path("/sys")
    cgroup: Path = Path("/sys/fs/cgroup")
    journal: Path = Path("/run/memplace")
    seccomp: Path = Path("/var/lib/kubelet/seccomp/memplace")
    own_cgroup: Path = Path("/sys/fs/cgroup")

    @property
    def announcement(self) -> Path:
        """The directory that only a kernel with process_mbind() has."""
        return self.sysfs / "kernel/mm/mempolicy/process_mbind"

    @property
    def numa_nodes(self) -> Path:
        """The directory with a nodeN for each NUMA node."""
        return self.sysfs / "devices/system/node"

    @property
    def memory_tiers(self) -> Path:
        """The directory with a memory_tierN for each of the kernel's tiers."""
        return self.sysfs / "devices/virtual/memory_tiering"

    @property
    def memory_blocks(self) -> Path:
        """The directory of memory blocks, the unit in which memory is added and removed."""
        return self.sysfs / "devices/system/memory"

    @property
    def dax_memory(self) -> Path:
        """The directory with a link for each dax device that is used as memory."""
        return self.sysfs / "bus/dax/drivers/kmem"

    @property
    def cxl_devices(self) -> Path:
        """The directory with a link for each region, decoder and device of CXL."""
        return self.sysfs / "bus/cxl/devices"

    @property
    def nvidia_gpus(self) -> Path:
        """The directory in which NVIDIA's driver has one for each GPU."""
        return self.proc / "driver/nvidia/gpus"

    @property
    def interleave_weights(self) -> Path:
        """The directory with a nodeN for the weight of each NUMA node; absent before 6.9.

        Source: Linux kernel commit dce41f5ae253 ("mm/mempolicy: implement the sysfs-based
        weighted_interleave interface") (in v6.9).
        """
        return self.sysfs / "kernel/mm/mempolicy/weighted_interleave"

    @property
    def boot_id(self) -> Path:
        """A file that is another one after each boot."""
        return self.proc / "sys/kernel/random/boot_id"

    @property
    def ksm(self) -> Path:
        """The directory of kernel samepage merging; absent without it."""
        return self.sysfs / "kernel/mm/ksm"

    def pid(self, pid: int) -> Path:
        """Return the directory of a process."""
        return self.proc / str(pid)

    def on_host(self, path: Path) -> Path:
        """Return a path as process 1 of the host sees it; needs CAP_SYS_PTRACE.

        A directory that is bind-mounted into this container can be removed only from there.
        """
        return self.proc / "1/root" / path.relative_to("/")


def read_proc(path: Path) -> str:
    """Read a file below /proc/PID.

    The kernel gives at most 4,095 bytes of maps and numa_maps to one read(2), so a longer text
    can tear when the process maps memory meanwhile; whoever reads one has to reckon with that.

    Raises:
        ProcessGone: ENOENT or ESRCH: the process ended.
    """
    try:
        # Paths of mappings are bytes of any kind.
        return read_file(str(path)).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, ProcessLookupError) as err:
        raise ProcessGone(err.errno, "the process is gone") from err


def read_file(path: str) -> bytes:
    """Read a file that the kernel makes; raises what open(2) and read(2) do."""
    # Most files have a line or two, and each look at a process reads some of them: Path and
    # open() would take several times as long as the kernel.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(file, _AT_ONCE)]
        while parts[-1]:
            parts.append(os.read(file, _AT_ONCE))
        return b"".join(parts)
    finally:
        os.close(file)
