# SPDX-License-Identifier: Apache-2.0
"""Commands about running clusters."""

from __future__ import annotations

import os

from memplace_lab.base.commands import Command, Commands, Options, Parser
from memplace_lab.base.steps import LabError, say
from memplace_lab.cluster import cluster as clusters
from memplace_lab.cluster.cluster import RUN, Cluster
from memplace_lab.machines.topology import TOPOLOGIES
from memplace_lab.product import product


def _with_topology(parser: Parser) -> None:
    names = sorted(TOPOLOGIES)
    parser.add_argument("--topology", choices=names, default="hmat", help="default: %(default)s")


def _demo(options: Options) -> None:
    from memplace_lab.show import both_kernels, demo  # Redis's client is no part of a bare Python

    (both_kernels if options.topology == "two" else demo).demo()


def _up(options: Options) -> None:
    cluster = clusters.up(options.topology, product.prepull(), publish=product.publish)
    product.install(cluster)


def _down(_options: Options) -> None:
    for directory in sorted(RUN.glob("*")):
        Cluster(directory.name, directory).down()
        say(f"cluster {directory.name}: ended")


def _shell(options: Options) -> None:
    topology = options.topology
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


COMMANDS: Commands = {
    "up": Command("bring up a cluster with memplace installed", _up, _with_topology),
    "down": Command("end every running cluster", _down),
    "shell": Command(
        "open a shell with kubectl and helm for the running cluster", _shell, _with_topology
    ),
    "demo": Command(
        "build what is missing, show first light (or, with two, both kernels), leave it running",
        _demo,
        _with_topology,
    ),
}
