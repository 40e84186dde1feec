# SPDX-License-Identifier: Apache-2.0
"""The lab's command line: ``python3 -m memplace_lab COMMAND``."""

from __future__ import annotations

import argparse
import os
import sys

from memplace_lab import cluster as clusters
from memplace_lab.cluster import RUN, Cluster
from memplace_lab.steps import LabError, say
from memplace_lab.topology import TOPOLOGIES


def main() -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="memplace-lab", description="A real cluster with memory tiers."
    )
    parser.add_argument(
        "command",
        choices=sorted(COMMANDS),
        help=" ".join(f"{n}: {c.__doc__}" for n, c in COMMANDS.items()),
    )
    parser.add_argument(
        "--topology", choices=sorted(TOPOLOGIES), default="hmat", help="default: %(default)s"
    )
    given = parser.parse_args()
    try:
        COMMANDS[given.command](given.topology)
    except LabError as error:
        print(f"\nlab: {error}", file=sys.stderr)
        return 1
    return 0


def _demo(topology: str) -> None:
    """Build what is missing, show first light (or, with two, both kernels), leave it running."""
    from memplace_lab import both_kernels, demo

    (both_kernels if topology == "two" else demo).demo()


def _up(topology: str) -> None:
    """Bring up a cluster with memplace installed."""
    from memplace_lab import product

    cluster = clusters.up(topology, product.prepull(), publish=product.publish)
    product.install(cluster)


def _down(_topology: str) -> None:
    """End every running cluster."""
    for directory in sorted(RUN.glob("*")):
        Cluster(directory.name, directory).down()
        say(f"cluster {directory.name}: ended")


def _shell(topology: str) -> None:
    """Open a shell with kubectl and helm set up for the running cluster."""
    cluster = Cluster(topology, RUN / topology)
    if not cluster.is_up():
        raise LabError(
            f"no cluster {topology} is running; start one with: make demo (or make lab-up)"
        )
    plane = cluster.control_plane
    os.environ["KUBECONFIG"] = str(plane.pki.path("admin.kubeconfig"))
    os.environ["PATH"] = f"{plane.binaries}:{os.environ['PATH']}"
    for worker in cluster.workers:
        login = " ".join(cluster.ssh_command(worker.name)[2:])
        say(f"{worker.name}: {login}")
    command = cluster.network.inside("bash", "--norc", "-i")
    os.environ["PS1"] = "lab:$ "
    os.execvp(command[0], command)


def _build(_topology: str) -> None:
    """Build the programs, the kernel, the workers' disk and the images."""
    from memplace_lab import binaries, guest, kernel, product

    for made in (binaries.directory(), kernel.image(), guest.image()):
        say(f"built: {made}")
    for name in product.built():
        say(f"built: image {name}")


COMMANDS = {"build": _build, "demo": _demo, "up": _up, "down": _down, "shell": _shell}


if __name__ == "__main__":
    sys.exit(main())
