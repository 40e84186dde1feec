# SPDX-License-Identifier: Apache-2.0
"""What the operator costs and how far behind it is, at a real API server and etcd.

    make bench-operator                                     # the four sizes
    lab/enter python3 bench/operator_process 500/1000 --seconds 60
    lab/enter python3 bench/operator_process 200/400 --watching     # see watching.py
    lab/enter python3 bench/operator_process 50/100 --fraction 1 --spread --quiet 0

For each size NODES/PLACEMENTS (ten pods each) it fills an etcd with objects of real size and
measures, of the operator of this checkout with exactly the rights it has:

fill      It starts, no placement has a status: until all are written.
idle      Nothing happens but agents' heartbeats: what is written (nothing).
restart   It starts again: until it has judged all there is. What is written (nothing).
steady    1 % of the nodes report something new every 10 s, all agents renew their Leases:
          share of a core, writes, and the time until a change is in a placement's status.

All share one machine; the load of others is printed with the figures. Exit status 1 if a
status is wrong in the end, or something is written when nothing changed.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import json
import os
import re
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import watching
from churn import Churn, Seen, Server, beating
from etcd import fill
from memplace_lab.product.apiserver import ADMIN, ApiServer
from memplace_lab.product.operating import API, RBAC, Operator
from memplace_lab.product.rights import ELECTION_RULES, LEASE_RULES, RULES
from objects import Layout

SIZES = ("50/100", "500/1000", "2000/4000", "5000/10000")
TICKS = os.sysconf("SC_CLK_TCK")
METRIC = "memplace_operator"


@dataclass
class Phase:
    """Seconds and CPU seconds of something, and what was written and resident then."""

    seconds: float
    cpu_s: float
    writes: int
    peak_mib: float


@dataclass
class Result:
    """What was measured of one size."""

    nodes: int
    placements: int
    pods: int
    load: tuple[float, float, float] = (0.0, 0.0, 0.0)
    phases: dict[str, Phase] = field(default_factory=dict)
    lags: dict[str, float] = field(default_factory=dict)
    changed: int = 0
    problems: list[str] = field(default_factory=list)


class Run:
    """One size."""

    def __init__(
        self, api: ApiServer, work: Path, layout: Layout, options: argparse.Namespace
    ) -> None:
        self.api = api
        self.layout = layout
        self.limit_s = options.limit
        self.is_spread = options.spread
        self.operator = Operator(api, work / "operator.log")
        if options.quiet is not None:
            script = Path(__file__).with_name("quiet.py")
            self.operator.program = (str(script), str(options.quiet))
        self.result = Result(layout.nodes, layout.placements, layout.pods)

    def metric(self, name: str) -> float:
        """Return a figure of the operator; 0 while it says nothing."""
        text = self.operator.get("/metrics")[1]
        found = re.search(rf"^{re.escape(f'{METRIC}_{name}')} (\S+)$", text, re.M)
        return float(found[1]) if found else 0.0

    @property
    def writes(self) -> int:
        """How many statuses were written since it started."""
        return int(self.metric('status_writes_total{result="success"}'))

    def cpu_s(self) -> float:
        """Return the CPU seconds of the operator so far."""
        stat = Path(f"/proc/{self.operator.process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / TICKS

    def peak_mib(self) -> float:
        """Return the most that it had resident."""
        text = Path(f"/proc/{self.operator.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", text)[0]) / 1024

    def start(self, name: str) -> None:
        """Start it and wait until it has judged, and written, all there is."""
        begin = time.monotonic()
        self.operator.start()
        count = self.layout.placements
        while self.metric('placements{reason="Placed"}') < count or self.metric("due_placements"):
            if time.monotonic() - begin > self.limit_s or self.operator.process.poll() is not None:
                self.result.problems.append(f"{name}: not done")
                break
            time.sleep(0.5)
        while name == "fill" and self.writes < count and time.monotonic() - begin < self.limit_s:
            time.sleep(0.5)
        self.note(name, begin, 0.0, 0)
        if name == "restart" and self.writes:
            self.result.problems.append(f"restart: {self.writes} writes")

    def idle(self, seconds: float) -> None:
        """Let nothing happen."""
        begin, cpu, writes = time.monotonic(), self.cpu_s(), self.writes
        asyncio.run(self.churn(0.0).run(seconds))
        self.note("idle", begin, cpu, writes)
        if self.writes > writes:
            self.result.problems.append(f"idle: {self.writes - writes} writes")

    def steady(self, seconds: float, fraction: float) -> None:
        """Let a few nodes change."""
        begin, cpu, writes = time.monotonic(), self.cpu_s(), self.writes
        seen = asyncio.run(self.churn(fraction).run(seconds))
        self.note("steady", begin, cpu, writes)
        self.result.changed = seen.changed
        self.result.lags = _lags(seen)
        if seen.missed:
            self.result.problems.append(f"steady: {seen.missed} changes never seen")

    def churn(self, fraction: float) -> Churn:
        """Return agents to play."""
        server = Server(self.api.url, str(self.api.ca), ADMIN, self.api._client)
        return Churn(server, self.layout, fraction, is_spread=self.is_spread)

    def note(self, name: str, begin: float, cpu: float, writes: int) -> None:
        """Keep what a phase took."""
        seconds = time.monotonic() - begin
        phase = Phase(seconds, self.cpu_s() - cpu, self.writes - writes, self.peak_mib())
        self.result.phases[name] = phase
        print(f"  {name}: {asdict(phase)}", file=sys.stderr, flush=True)

    def verify(self) -> None:
        """Compare all statuses with what they have to be."""
        bad, token = 0, ""
        while True:
            more = {"continue": token} if token else {}
            page = self.api.call("GET", f"{API}/memoryplacements", limit="500", **more).body
            bad += sum(not self.is_right(item) for item in page["items"])
            token = page["metadata"].get("continue", "")
            if not token:
                break
        if bad:
            self.result.problems.append(f"{bad} statuses are wrong")

    def is_right(self, item: dict[str, Any]) -> bool:
        """Return whether a placement's status says that all of its pods are placed."""
        status = item.get("status", {})
        ready = [c for c in status.get("conditions", ()) if c["type"] == "Ready"]
        each = self.layout.per_placement
        return (
            bool(ready)
            and ready[0]["status"] == "True"
            and (status["matchedPods"], status["placedPods"]) == (each, each)
            and all(rule["bytes"] for rule in status["rules"])
        )


def main() -> int:
    """Measure; 1 if something is wrong."""
    options = _parser().parse_args()
    # A run takes minutes: whatever ends it, it says so, and what there is by then.
    faulthandler.enable()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    os.environ.setdefault("MEMPLACE_BIN", str(max(Path("/cache").glob("bin-*"))))
    # 100,000 pods and their revisions.
    os.environ["ETCD_QUOTA_BACKEND_BYTES"] = str(8 << 30)
    if options.watching:
        for size in options.sizes:
            _watch(size, options.seconds)
        return 0
    results = [_measure(size, options) for size in options.sizes]
    print(json.dumps([asdict(each) for each in results], indent=1))
    print(table(results))
    return int(any(each.problems for each in results))


def _watch(size: str, seconds: float) -> None:
    found: list[watching.Measured] = []
    try:
        found.extend(watching.measure(size, seconds, _grant))
    finally:
        if found:
            print(watching.table(found), flush=True)


def _measure(size: str, options: argparse.Namespace) -> Result:
    nodes, placements = map(int, size.split("/"))
    layout = Layout(nodes, placements)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        option = "--disable-admission-plugins=ServiceAccount"
        with ApiServer(work, option, users=("operator",)).running() as api:
            api.install_crds()
            _grant(api)
            print(f"{size}: filling etcd", file=sys.stderr, flush=True)
            asyncio.run(fill(api._client, layout))
            run = Run(api, work, layout, options)
            run.result.load = os.getloadavg()
            try:
                with beating(api._client, nodes):
                    _phases(run, options)
            finally:
                if run.operator.process.poll() is None:
                    run.operator.stop()
                if options.log:
                    log = (work / "operator.log").read_text()
                    Path(options.log).write_text(log)
            return run.result


def _phases(run: Run, options: argparse.Namespace) -> None:
    run.start("fill")
    run.verify()
    run.idle(options.idle)
    run.operator.stop()
    run.start("restart")
    run.verify()
    run.steady(options.seconds, options.fraction)
    for problem in run.result.problems:
        print(f"  WRONG {problem}", file=sys.stderr)


def _grant(api: ApiServer) -> None:
    group = "rbac.authorization.k8s.io"
    leases = [*LEASE_RULES, *ELECTION_RULES]
    for folder, kind, rules in (
        (RBAC, "ClusterRole", RULES),
        (f"{RBAC}/namespaces/default", "Role", leases),
    ):
        meta, plural = {"name": "bench-operator"}, f"{kind.lower()}s"
        assert api.call("POST", f"{folder}/{plural}", {"metadata": meta, "rules": rules}).ok
        binding = {
            "metadata": meta,
            "roleRef": {"apiGroup": group, "kind": kind, "name": "bench-operator"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "operator"}],
        }
        assert api.call("POST", f"{folder}/{kind.lower()}bindings", binding).ok


def _lags(seen: Seen) -> dict[str, float]:
    lags = sorted(seen.lags)
    if not lags:
        return {}
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {k: round(lags[min(len(lags) - 1, int(len(lags) * v))], 2) for k, v in at.items()}


def table(results: list[Result]) -> str:
    """Return the results as Markdown."""
    head = (
        "| nodes / placements / pods | fill | restart | idle writes | steady: share of a core "
        "| writes per changed placement | lag p50 / p99 / max | peak RSS | load |"
    )
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for each in results:
        fill_, restart, idle, steady = (
            each.phases.get(name, Phase(0, 0, 0, 0))
            for name in ("fill", "restart", "idle", "steady")
        )
        lag = " / ".join(f"{each.lags.get(key, 0):.1f}" for key in ("p50", "p99", "max"))
        lines.append(
            f"| {each.nodes:,} / {each.placements:,} / {each.pods:,} "
            f"| {fill_.seconds:.0f} s ({fill_.cpu_s:.0f} CPU s) "
            f"| {restart.seconds:.0f} s ({restart.cpu_s:.0f} CPU s) "
            f"| {idle.writes} | {100 * steady.cpu_s / max(steady.seconds, 1):.0f} % "
            f"| {steady.writes / max(each.changed, 1):.2f} | {lag} s "
            f"| {max(p.peak_mib for p in each.phases.values()):.0f} MiB | {each.load[0]:.1f} |"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=SIZES, help="NODES/PLACEMENTS")
    parser.add_argument("--seconds", type=float, default=90, help="of the steady state")
    parser.add_argument("--idle", type=float, default=30, help="seconds of nothing")
    parser.add_argument("--fraction", type=float, default=0.01, help="of the nodes per 10 s")
    parser.add_argument("--spread", action="store_true", help="changes come one after the other")
    parser.add_argument("--quiet", type=float, help="seconds that figures wait, see quiet.py")
    parser.add_argument("--limit", type=float, default=900, help="seconds for a start")
    parser.add_argument("--watching", action="store_true", help="what agents are sent, instead")
    parser.add_argument("--log", default="", help="where to keep the operator's log")
    return parser


if __name__ == "__main__":
    sys.exit(main())
