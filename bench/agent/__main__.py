# SPDX-License-Identifier: Apache-2.0
"""What the node agent costs, and what pods see of it, beside memtierd, in one run.

    make bench-agent                                        # the agent alone
    lab/enter python3 bench/agent --memtierd /cache/memtierd --config /cache/age.yaml
    lab/enter python3 bench/agent --part victim --victim-mib 2048

herd     Many containers where nothing changes, and half of which change their maps every 2 s;
         one process with very many mappings; new mappings in a running process.
victim   A large process notes how long its page faults and mmap() take, while it is looked at
         and while it is moved.
crowd    Fifty containers of a hundred processes each: the memory of who remembers all of them.

The processors are emulated and instructions are counted, one is one nanosecond: what else the
machine does changes nothing, and pauses take no time. A real core does several of them in a
nanosecond: the same small piece of work is timed outside, too, and shares of a core are those
of a real one. The agent is the whole process of this checkout, with its own API server
on loopback. Both are told to have the data of all pods on node 1.

memtierd (https://github.com/intel/memtierd) is not part of this project, and nothing here
builds it: --memtierd takes the program, statically linked, and --config the sample
configuration that its README names, sample-configs/memtierd-age-softdirty.yaml. Cgroup and
nodes are replaced in it, nothing else. Exit status 1 if something could not be measured; a
goal that is missed is no failure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from memplace_lab.base import store
from memplace_lab.base.steps import step
from memplace_lab.bench import agent as bench_agent
from memplace_lab.bench.agent import AGENT, MEMTIERD, Row
from memplace_lab.machines import kernel, qemu
from memplace_lab.machines.qemu import Hardware, Node

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
CGROUP = "/sys/fs/cgroup/kubepods.slice"
PROGRAMS = ("herd", "probe", "victim")
_CERTIFICATE = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    *("-nodes", "-days", "36500", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"),
    *("-addext", "basicConstraints=critical,CA:TRUE"),
)


def main() -> int:
    """Run what was asked for; 1 if something could not be measured."""
    options = _parser().parse_args()
    if options.readme and options.part != "both":
        raise SystemExit("--readme writes the tables of --part both")
    bzimage = options.kernel or kernel.build_kernel()
    parts = ("herd", "victim") if options.part == "both" else (options.part,)
    found: dict[str, list[Row]] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory(dir=store.CACHE) as folder:
        work = Path(folder)
        _prepare(work, options)
        for part in parts:
            with step(f"bench/agent: {part}"):
                console = _boot(bzimage, part, work, options)
            found[part] = bench_agent.rows(console)
            failed += bench_agent.failures(console)
            if "BENCH done" not in console:
                failed.append(f"{part}: the console ends with\n{console[-3000:]}")
        real_s = _real_calibration(work)
    text = _report(found, real_s, options)
    print(text)
    print("\n".join(failed), file=sys.stderr)
    if options.readme and not failed:
        page = REPO / "bench" / "README.md"
        page.write_text(bench_agent.within(page.read_text(), text))
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/agent", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    parts = ("herd", "victim", "both", "crowd")
    add("--part", choices=parts, default="both", help="both: herd and victim (default: both)")
    add("--kernel", type=Path, help="bzImage (default: the lab's, built if need be)")
    add("--memtierd", type=Path, help="the program (default: left out)")
    add("--config", type=Path, help="memtierd's sample configuration")
    add("--readme", action="store_true", help="write the tables into bench/README.md, too")
    add("--rounds", type=int, default=3, help="(default: 3)")
    add("--containers", type=int, default=250, help="(default: 250)")
    add("--mappings", type=int, default=200, help="of each container (default: 200)")
    add("--many", type=int, default=65530, help="mappings of one process (default: 65530)")
    add("--processes", type=int, default=5000, help="of a crowd, in all (default: 5000)")
    add("--settle-s", type=float, default=45, help="before CPU is measured (default: 45)")
    add("--window-s", type=float, default=30, help="in which it is (default: 30)")
    add("--probes", type=int, default=3, help="new mappings per round (default: 3)")
    add("--victim-mib", type=int, default=8192, help="of what is looked at (default: 8192)")
    add("--moved-mib", type=int, default=1024, help="of what is moved (default: 1024)")
    return parser


def _prepare(work: Path, options: argparse.Namespace) -> None:
    """Make the programs, a certificate, and memtierd with its configuration."""
    for name in PROGRAMS:
        source = HERE / "programs" / f"{name}.c"
        _run("gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", source, "-o", work / name)
    _run(*_CERTIFICATE, "-keyout", work / "server.key", "-out", work / "server.crt")
    if options.memtierd:
        if not options.config:
            raise SystemExit("--memtierd needs --config")
        text = bench_agent.memtierd_config(options.config.read_text(), CGROUP)
        (work / "memtierd.yaml").write_text(text)


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, stderr=subprocess.DEVNULL)


def _boot(bzimage: Path, part: str, work: Path, options: argparse.Namespace) -> str:
    """Return the console of a machine that sees this file system read-only and measures a part."""
    plan = {
        name: getattr(options, name)
        for name in (
            *("rounds", "containers", "mappings", "many", "processes", "settle_s", "window_s"),
            *("probes", "victim_mib", "moved_mib"),
        )
    } | {
        "part": part,
        "programs": str(work),
        "certificate": str(work / "server.crt"),
        "memtierd": str(options.memtierd or ""),
        "config": str(work / "memtierd.yaml"),
    }
    (work / "plan.json").write_text(json.dumps(plan))
    # A process that is looked at needs one processor, who looks another.
    processors = 2 if part == "victim" else 1
    sizes = {"herd": (3072, 1536), "crowd": (4096, 2048)}
    victims = (options.victim_mib + 2048, options.moved_mib + 512)
    log = store.CACHE / "log" / f"bench-agent-{part}-{os.getpid()}.console"
    with log.open("wb") as file:
        subprocess.run(
            _qemu(bzimage, work, processors, sizes.get(part, victims)),
            stdin=subprocess.DEVNULL,
            stdout=file,
            check=True,
            timeout=3 * 3600,
        )
    return log.read_text(errors="replace").replace("\r", "")


def _qemu(bzimage: Path, work: Path, processors: int, nodes: Sequence[int]) -> list[str]:
    paths = [str(REPO), *(path for path in sys.path if path.startswith("/") and path != str(HERE))]
    dram, cxl = nodes
    hardware = Hardware((Node(dram, cpus=f"0-{processors - 1}"), Node(cxl)), smp=str(processors))
    return [
        *("setpriv", "--pdeathsig", "KILL", qemu.PROGRAM, *hardware.arguments()),
        *("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"),
        # Copying is emulated byte by byte with ERMS, see bench/kernel.
        *("-cpu", "max,-erms,-fsrm"),
        *("-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *(*qemu.SHARED_ROOT, "-kernel", str(bzimage)),
        "-append",
        "console=ttyS0 quiet panic=-1 mitigations=off transparent_hugepage=never "
        f"{qemu.ON_SHARED_ROOT} "
        f"NO_COLOR=1 PYTHONPATH={':'.join(paths)} PYTHONDONTWRITEBYTECODE=1 "
        f"BENCH_PLAN={work / 'plan.json'} init={sys.executable} -- -u -m bench.agent.guest",
    ]


def _real_calibration(work: Path) -> float:
    command = [sys.executable, "-m", "bench.agent.guest.calibrate", str(work / "herd")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=REPO, env=_here())
    return float(done.stdout)


def _here() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO)}


def _report(found: dict[str, list[Row]], real_s: float, options: argparse.Namespace) -> str:
    rounds = "One round" if options.rounds == 1 else f"Medians of {options.rounds} rounds"
    parts = [f"{rounds}; Linux {kernel_release(options)}."]
    if "herd" in found:
        sizes = (options.containers, options.mappings, options.many)
        faster = bench_agent.faster(found["herd"], real_s)
        if faster is not None:
            parts.append(bench_agent.CORES.format(faster=faster))
        parts.append(bench_agent.herd_table(found["herd"], *sizes, faster or 1.0))
        parts += filter(None, [bench_agent.saturated(found["herd"])])
    if "crowd" in found:
        faster = bench_agent.faster(found["crowd"], real_s) or 1.0
        parts.append(bench_agent.crowd_table(found["crowd"], options.processes, faster))
    if "victim" in found:
        parts.append(
            f"A process of {options.victim_mib:,} MiB that is looked at, and one of "
            f"{options.moved_mib:,} MiB that is moved:"
        )
        subjects = (AGENT, MEMTIERD) if options.memtierd else (AGENT,)
        parts += [
            bench_agent.victim_table(found["victim"], subject, what)
            for what in ("looked at", "moved")
            for subject in subjects
        ]
    return "\n\n".join(parts)


def kernel_release(options: argparse.Namespace) -> str:
    """Return the release of the kernel that was booted, or its path."""
    bzimage = options.kernel or kernel.build_kernel()
    release = bzimage.parent / "release"
    return release.read_text().strip() if release.exists() else str(bzimage)


if __name__ == "__main__":
    sys.exit(main())
