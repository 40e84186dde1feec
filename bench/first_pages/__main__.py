# SPDX-License-Identifier: Apache-2.0
"""Where the first pages of new pods are, by each way to place them, in one run on one cluster.

    make bench-first-pages                              # some 15 minutes
    lab/enter python3 bench/first_pages --memtierd /cache/memtierd --config /cache/age.yaml
    lab/enter python3 bench/first_pages --ways nothing,events --pods 5

Twenty pods are created at once. Each touches its memory as soon as it runs; all of it is meant
for the CXL tier. Counted is what is on the other tier: by the program itself when it has touched
all, and by the worker's numa_maps some time later. memplace's placement moves nothing, so what it
has on the wrong tier was born there.

nothing     memplace is installed and has no placement.
memtierd    It is to move what is idle; given by --memtierd, statically linked, and --config, the
            sample configuration that its README names. Only cgroup and nodes are replaced in it.
loop        move_pages(2) every 0.1 s for all processes of these pods.
events      memplace with cgroup events alone (agent.shimDefault.enabled=false).
shim        memplace as it is installed: events, and a default on the pods' shims.
nri         memplace asked by containerd before a program starts (agent.nri.enabled=true),
            without a default on shims.

kubelet, containerd and runc are real. The worker is emulated and its processors are shared by
all of it, so times of day in it mean little; which of two is first means something.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base.steps import LabError, step, wait_for
from memplace_lab.bench import agent as bench_agent
from memplace_lab.cluster import containerd
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import newborn, scenario
from memplace_lab.show.newborn import WORKER, Born, container, log, pod, spec, told
from memplace_lab.show.scenario import CXL

LOOP = Path(__file__).with_name("move_pages_loop.py")
PAUSE_S = 0.1
PODS_CGROUP = "/sys/fs/cgroup/kubepods.slice"
NO_SHIM = ("--set", "agent.shimDefault.enabled=false")

Way = Callable[[Cluster, argparse.Namespace], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Row:
    """What one way came to.

    Attributes:
        first: When each program had touched all.
        late: Some seconds after the last of them had.
    """

    first: Born
    late: Born


# --- ways ---


@contextlib.contextmanager
def nothing(_cluster: Cluster, _options: argparse.Namespace) -> Iterator[None]:
    """Let nobody place anything."""
    yield


@contextlib.contextmanager
def _program(cluster: Cluster, command: str) -> Iterator[None]:
    """Run a program on the worker, as root, outside of all pods."""
    start = f"setsid {command} >/run/bench.log 2>&1 </dev/null & echo $!"
    pid = int(cluster.ssh(WORKER, start))
    try:
        yield
        cluster.ssh(WORKER, f"kill {pid} || (cat /run/bench.log; false)")
    except LabError as error:
        raise LabError(f"{command} has ended: {error}") from error


@contextlib.contextmanager
def memtierd(cluster: Cluster, options: argparse.Namespace) -> Iterator[None]:
    """Run memtierd beside the pods, with its sample configuration."""
    program = base64.b64encode(options.memtierd.read_bytes()).decode()
    put = "base64 -d > /run/memtierd; chmod +x /run/memtierd"
    cluster.ssh(WORKER, put, stdin=program, timeout_s=300)
    config = bench_agent.memtierd_config(options.config.read_text(), PODS_CGROUP)
    cluster.ssh(WORKER, "cat > /run/memtierd.yaml", stdin=config)
    with _program(cluster, "/run/memtierd -config /run/memtierd.yaml"):
        yield


@contextlib.contextmanager
def loop(cluster: Cluster, _options: argparse.Namespace) -> Iterator[None]:
    """Run a loop of move_pages(2)."""
    cluster.ssh(WORKER, "cat > /run/loop.py", stdin=LOOP.read_text())
    with _program(cluster, f"python3 /run/loop.py {CXL} {PAUSE_S} workload"):
        yield


@contextlib.contextmanager
def _placed(cluster: Cluster, *values: str) -> Iterator[None]:
    """Have memplace with these values and the placement of the pods."""
    product.release(cluster, *values)
    newborn.apply_example(cluster)
    here = ("-n", scenario.NAMESPACE, newborn.PLACEMENT)
    cluster.kubectl("wait", "mp", *here, "--for=condition=Ready", "--timeout=120s")
    try:
        yield
    finally:
        cluster.kubectl("delete", "-n", scenario.NAMESPACE, "-f", str(newborn.EXAMPLE))


@contextlib.contextmanager
def events(cluster: Cluster, _options: argparse.Namespace) -> Iterator[None]:
    """Let the agent hear of a container's cgroup."""
    with _placed(cluster, *NO_SHIM):
        yield


@contextlib.contextmanager
def shim(cluster: Cluster, _options: argparse.Namespace) -> Iterator[None]:
    """Give the pod's shim the default."""
    with _placed(cluster):
        yield


@contextlib.contextmanager
def nri(cluster: Cluster, _options: argparse.Namespace) -> Iterator[None]:
    """Have containerd ask first."""
    with containerd.with_nri(cluster, WORKER), _placed(cluster, *NO_SHIM, *containerd.VALUES):
        yield


WAYS: Mapping[str, Way] = {
    "nothing": nothing,
    "memtierd": memtierd,
    "loop": loop,
    "events": events,
    "shim": shim,
    "nri": nri,
}


# --- what is measured ---


def measure(cluster: Cluster, name: str, options: argparse.Namespace) -> Row:
    """Create the pods, wait until all have touched their memory, and some time more."""
    names = [f"{name}-{number}" for number in range(options.pods)]
    args = ("touch", str(options.mib))
    made = [pod(each, spec(container("main", *args))) for each in names]
    with WAYS[name](cluster, options), step(f"{options.pods} pods at once, {name}"):
        try:
            newborn.create(cluster, made)
            first = [_first(cluster, each) for each in names]
            time.sleep(options.later_s)
            late = newborn.touched(cluster, [(each, "main") for each in names])
        finally:
            where = ("-n", scenario.NAMESPACE, "--force", "--grace-period=0")
            cluster.kubectl("delete", "pod", *where, *names)
    return Row(_sum(first), _sum(late.values()))


def _first(cluster: Cluster, name: str) -> Born:
    found: list[Born] = []

    def has_told() -> bool:
        with contextlib.suppress(LabError):
            found.extend(filter(None, [told(log(cluster, name, "main"))]))
        return bool(found)

    wait_for(f"{name} has touched its memory", has_told, timeout_s=600)
    return found[0]


def _sum(of: Iterable[Born]) -> Born:
    every = list(of)
    return Born(sum(each.wrong for each in every), sum(each.right for each in every))


def table(found: Mapping[str, Row], options: argparse.Namespace) -> str:
    """Return the table of bench/README.md."""
    lines = [
        f"{options.pods} pods at once, {options.mib} MiB each.",
        "",
        f"| | bytes on the wrong tier when all was touched | {options.later_s:g} s later |",
        "|---|---:|---:|",
        *(f"| {name} | {_cell(row.first)} | {_cell(row.late)} |" for name, row in found.items()),
    ]
    return "\n".join(lines)


def _cell(born: Born) -> str:
    return f"{born.wrong:,} of {born.wrong + born.right:,} ({born.share:.2%})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/first_pages",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--ways", help=f"(default: all that can be; of {','.join(WAYS)})")
    add("--pods", type=int, default=20, help="created at once (default: 20)")
    add("--mib", type=int, default=8, help="that each touches (default: 8)")
    add("--later-s", type=float, default=20, help="until numa_maps is read (default: 20)")
    add("--memtierd", type=Path, help="the program (default: left out)")
    add("--config", type=Path, help="memtierd's sample configuration")
    return parser


def _chosen(options: argparse.Namespace) -> list[str]:
    ways = options.ways.split(",") if options.ways else [*WAYS]
    if wrong := set(ways) - set(WAYS):
        raise SystemExit(f"no such way: {', '.join(sorted(wrong))}; there are {', '.join(WAYS)}")
    if options.memtierd and options.config:
        return ways
    if options.memtierd or options.config or (options.ways and "memtierd" in ways):
        raise SystemExit("memtierd needs both --memtierd and --config")
    return [way for way in ways if way != "memtierd"]


def main() -> int:
    """Measure each way in turn; 1 if one could not be measured."""
    options = _parser().parse_args()
    found: dict[str, Row] = {}
    failed = []
    ways = _chosen(options)
    with product.running("hmat") as cluster:
        scenario.create_namespace(cluster)
        for name in ways:
            try:
                found[name] = measure(cluster, name, options)
            except LabError as error:
                failed.append(f"{name}: {error}")
    print(table(found, options))
    print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
