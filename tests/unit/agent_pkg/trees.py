# SPDX-License-Identifier: Apache-2.0
"""Trees of /sys and /proc of unlike machines, written from data/machines/*.toml.

Each file says where its facts come from. What it does not give is left out of the tree, as an
older kernel, a virtual machine or firmware that says little leaves it out.

| key | becomes |
|---|---|
| `node` | node directories: `id` or `ids`, `cpus`, `offline_cpus`, `total_kb`, `blocks`,
  `initiators`, and `figures` (ns, MB/s) |
| `tiers` | nodelist of each of the kernel's memory tiers |
| `dax` | a dax device at `path` below /sys/devices, with `target_node`, bound to `driver` |
| `region` `window` | what CXL maps at `start`, `size` bytes of it, at `path` |
| `gpu` | NVIDIA's numa_status of a GPU |
| `vanished` | nodes whose files are gone when they are read |
| `memory_tier` | MemoryTier objects |
| `expect` | `tiers`, `reported` (nodes with memory), `why` (a part of the sentence, by node) |
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from memplace.nodes import format_nodes
from memplace_agent.hostfs import HostFs

FOLDER = Path(__file__).parent / "data" / "machines"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name):
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


def plant(root, facts):
    """Write the tree of a machine below a directory; returns where it is."""
    host = HostFs(proc=root / "proc", sysfs=root / "sys")
    host.proc.mkdir(parents=True)
    host.numa_nodes.mkdir(parents=True)
    _put(host.memory_blocks / "block_size_bytes", f"{facts.get('block_mib', 128) << 20:x}")
    nodes = [node | {"id": n} for node in facts["node"] for n in node.get("ids", [node.get("id")])]
    _plant_lists(host, facts, nodes)
    for node in nodes:
        _plant_node(host, node, gone=node["id"] in facts.get("vanished", ()))
    for name, listed in facts.get("tiers", {}).items():
        _put(host.memory_tiers / name / "nodelist", listed)
    for device in facts.get("dax", ()):
        _plant_dax(host, device)
    for each in facts.get("region", ()):
        _plant_range(host, each, "resource")
    for each in facts.get("window", ()):
        _plant_range(host, each, "start")
    for gpu in facts.get("gpu", ()):
        text = f"Node:      {gpu['node']}\nStatus:    online\nAddress:   800000000000"
        _put(host.nvidia_gpus / gpu["id"] / "numa_status", text)
    return host


def _plant_lists(host, facts, nodes):
    ids = {node["id"] for node in nodes}
    lists = {
        "possible": facts.get("possible", format_nodes(ids)),
        "online": format_nodes(ids),
        "has_cpu": format_nodes(node["id"] for node in nodes if node.get("cpus")),
        "has_memory": format_nodes(node["id"] for node in nodes if node.get("total_kb")),
        "has_generic_initiator": facts.get("generic_initiators", ""),
    }
    for name, listed in lists.items():
        _put(host.numa_nodes / name, listed)


def _plant_node(host, node, *, gone):
    path = host.numa_nodes / f"node{node['id']}"
    path.mkdir()
    if gone:
        return
    _put(path / "cpulist", node.get("cpus", ""))
    total, number = node.get("total_kb", 0), node["id"]
    _put(path / "meminfo", f"Node {number} MemTotal:  {total:8} kB\nNode {number} MemFree: 4 kB")
    _put(path / "uevent", "")
    linked = [node.get("cpus", ""), node.get("offline_cpus", "")]
    for cpu in _numbers(",".join(filter(None, linked))):
        (path / f"cpu{cpu}").symlink_to(f"../../cpu/cpu{cpu}")
    for block in _numbers(node.get("blocks", "")):
        (path / f"memory{block}").symlink_to(f"../../memory/memory{block}")
    for access in ("access0", "access1") if "figures" in node else ():
        _plant_access(path / access / "initiators", node, access)


def _plant_access(path, node, access):
    latency, bandwidth = node["figures"]
    for way in ("read", "write"):
        _put(path / f"{way}_latency", latency)
        _put(path / f"{way}_bandwidth", bandwidth)
    if access == "access0":
        for initiator in node.get("initiators", ()):
            (path / f"node{initiator}").symlink_to(f"../../../node{initiator}")


def _plant_dax(host, device):
    path = host.sysfs / "devices" / device["path"] / device["name"]
    _put(path / "target_node", device["target_node"])
    for directory in ("bus/dax/devices", f"bus/dax/drivers/{device.get('driver', 'kmem')}"):
        _link(host.sysfs / directory / device["name"], path, host.sysfs)


def _plant_range(host, facts, attribute):
    path = host.sysfs / "devices" / facts["path"]
    _put(path / attribute, f"{facts['start']:#x}")
    _put(path / "size", f"{facts['size']:#x}")
    _link(host.cxl_devices / path.name, path, host.sysfs)


def _link(link, target, sysfs):
    link.parent.mkdir(parents=True, exist_ok=True)
    up = "../" * len(link.parent.relative_to(sysfs).parts)
    link.symlink_to(up + str(target.relative_to(sysfs)))


def _put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


def _numbers(listed):
    for part in filter(None, listed.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
