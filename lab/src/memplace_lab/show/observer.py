# SPDX-License-Identifier: Apache-2.0
"""Tell where the bytes of a container's processes are; runs on the worker itself.

Stands alone on purpose (standard library, nothing of the product): it is the
witness that the product's own words are held against.  ``python3 - ID…`` reads
this file from standard input and prints JSON: for each container id the list of
its processes, for each process its mappings from /proc/PID/maps, numa_maps and smaps.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

PROC = Path("/proc")


def pids_of(container_id: str) -> list[int]:
    """Return the pids whose cgroup path has the container's id, lowest first."""
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if container_id in (entry / "cgroup").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def names_of(pid: int) -> dict[int, tuple[str, str, int]]:
    """Return name, permissions and length of the lines of /proc/PID/maps by start address."""
    names = {}
    for line in (PROC / str(pid) / "maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in fields[0].split("-"))
        names[start] = (fields[5] if len(fields) > 5 else "", fields[1], end - start)
    return names


def label(name: str, permissions: str) -> str:
    """Return what a mapping is called in the tables."""
    if name.startswith("[anon:"):
        return name[1:-1]
    if name in ("[heap]", "[stack]", "[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]"):
        return name.strip("[]")
    if name == "":
        return "anonymous" if "p" in permissions else "shared"
    return "file " + name


def shares_of(pid: int) -> dict[int, float]:
    """Return by start address which part of a mapping's bytes is the process's, by smaps.

    Of a page that two processes map, each has one half.
    """
    shares: dict[int, float] = {}
    start = resident = 0
    for line in (PROC / str(pid) / "smaps").read_text().splitlines():
        key, *rest = line.split()
        if key == "Rss:":
            resident = int(rest[0])
        elif key == "Pss:":
            shares[start] = int(rest[0]) / resident if resident else 1.0
        elif not key.endswith(":"):
            start = int(key.partition("-")[0], 16)
    return shares


def mappings(pid: int) -> list[dict[str, Any]]:
    """Return the mappings of a process, each with its policy and bytes per NUMA node."""
    names, shares = names_of(pid), shares_of(pid)
    found: list[dict[str, Any]] = []
    data_end = 0
    for line in (PROC / str(pid) / "numa_maps").read_text().splitlines():
        fields = line.split(" ")
        start = int(fields[0], 16)
        # A policy may have blanks in it: "prefer (many):1", "weighted interleave:0-1".
        shown = re.match(r"[0-9a-f]+ ((?:prefer \(many\)|weighted interleave|[a-z]+)\S*)", line)
        assert shown, line
        policy = shown.group(1)
        size = re.search(r"kernelpagesize_kB=(\d+)", line)
        page = int(size.group(1)) * 1024 if size else 4096
        nodes = {n: int(c) * page for n, c in re.findall(r" N(\d+)=(\d+)", line)}
        name, permissions, length = names.get(start, ("", "p", 0))
        # What an image has beyond its file the kernel maps right behind its data.
        is_bss = name == "" and start == data_end
        data_end = start + length if name.startswith("/") and permissions == "rw-p" else 0
        found.append(
            {
                "start": start,
                "length": length,
                "label": "bss" if is_bss else label(name, permissions),
                "policy": policy,
                "nodes": nodes,
                "share": shares.get(start, 1.0),
            }
        )
    return found


def observe(container_id: str) -> list[dict[str, Any]]:
    """Return pid, command and mappings of each process of a container."""
    processes = []
    for pid in pids_of(container_id):
        try:
            command = (PROC / str(pid) / "comm").read_text().strip()
            processes.append({"pid": pid, "command": command, "mappings": mappings(pid)})
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended in between
    return processes


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("observer: must run as root to read other processes' numa_maps")
    json.dump({container: observe(container) for container in sys.argv[1:]}, sys.stdout)
