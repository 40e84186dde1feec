# SPDX-License-Identifier: Apache-2.0
"""The containerd of a worker, with and without NRI, which is off by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from memplace_lab.cluster.cluster import Cluster

_CONFIG, _BEFORE = "/etc/containerd/config.toml", "/root/config.toml"
# As docs/nri.md has it for containerd 1.7.
_NRI = """
[plugins."io.containerd.nri.v1.nri"]
  disable = false
  disable_connections = false
"""
# The chart's values for it. Emulated workers take longer than the 200 ms that it has.
VALUES = ("--set", "agent.nri.enabled=true", "--set", "agent.nri.timeoutMilliseconds=1500")


@contextmanager
def with_nri(cluster: Cluster, worker: str) -> Iterator[None]:
    """Have a worker's containerd ask plugins, and restart it before and afterwards."""
    cluster.ssh(worker, f"cp {_CONFIG} {_BEFORE}; cat >> {_CONFIG}", stdin=_NRI)
    restart(cluster, worker)
    yield
    cluster.ssh(worker, f"mv {_BEFORE} {_CONFIG}")
    restart(cluster, worker)


def restart(cluster: Cluster, worker: str) -> None:
    """Restart containerd; containers go on."""
    cluster.ssh(worker, "systemctl restart containerd")
