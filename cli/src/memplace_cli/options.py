# SPDX-License-Identifier: Apache-2.0
"""What was typed, and the help."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from memplace.api.liveness import DOUBT_S

from memplace_cli.naming import PlacementName, read_name
from memplace_cli.shells import SCRIPTS

_EPILOG = """\
exit status:
  0  The command has done its work. doctor found no fault. plan found nothing in the way.
  1  doctor found a fault, plan found a container that would not be placed, undo --wait ran out
     of time, or the command failed.
  2  The command line makes no sense, or plan found a wrong manifest.
  3  There is no such pod, container, placement or context, or the cluster has no memplace.
  4  The API server refused the request (401, 403).
  5  There is no kubeconfig, or the API server does not answer."""

COMMANDS = {
    "status": (
        "show nodes, placements, and what needs attention, on one screen",
        "examples:\n  kubectl memplace status\n  kubectl memplace status -n cache -o json",
    ),
    "explain": (
        "explain why the memory of a pod is where it is, or why it is not placed",
        "examples:\n  kubectl memplace explain redis-0 -n cache\n"
        "  kubectl memplace explain cache/redis-0 -c redis -o yaml",
    ),
    "top": (
        "show the bytes of each pod per tier as bars, the largest pod first",
        "The bytes are those that the rules of placements hold. The agents measured them last.\n\n"
        "examples:\n  kubectl memplace top -n cache\n  watch kubectl memplace top",
    ),
    "plan": (
        "show what manifests would do, before you apply them; change nothing",
        "The API server checks the manifests in a dry run. The plan shows which pods each\n"
        "placement would select, which nodes they run on, which containers the placement would\n"
        "win and lose, and what is in the way.\n\n"
        "examples:\n  kubectl memplace plan -f placement.yaml -n cache\n"
        "  helm template app | kubectl memplace plan -f -",
    ),
    "pause": (
        "stop the work for a placement; keep what is in place",
        "The command sets spec.paused.\n\n"
        "examples:\n  kubectl memplace pause redis-on-cxl -n cache\n"
        "  kubectl memplace pause cmp/heap-on-cxl",
    ),
    "resume": (
        "continue the work for a placement, after pause or undo",
        "The command sets spec.paused to false. It removes spec.mode if undo wrote that. A\n"
        "roll-out that is held continues, whatever holds it.\n\n"
        "examples:\n  kubectl memplace resume cache/redis-on-cxl\n"
        "  kubectl memplace resume cmp/heap-on-cxl",
    ),
    "undo": (
        "restore the policies that a placement changed, without deleting the placement",
        "The command sets spec.mode to DryRun. The agents restore all policies. Pages stay where\n"
        "they are. From then on the agents measure what would move.\n\n"
        "examples:\n  kubectl memplace undo redis-on-cxl -n cache --wait\n"
        "  kubectl memplace undo cmp/heap-on-cxl",
    ),
    "tiers": (
        "show the tiers of each node: capacity, bytes of placements, and evidence",
        "examples:\n  kubectl memplace tiers",
    ),
    "doctor": (
        "check the CRDs, the operator, the agents, their heartbeats, and the conditions",
        "An agent is alive if its Lease changes. The command does not compare clocks. It listens\n"
        f"for {DOUBT_S:.0f} s at most where a heartbeat seems old.\n\n"
        "examples:\n  kubectl memplace doctor",
    ),
    "completion": (
        "print the completion script of the command memplace for a shell",
        "kubectl does not need the script. It asks the program kubectl_complete-memplace.\n\n"
        "examples:\n  source <(memplace completion bash)\n"
        "  memplace completion fish | source",
    ),
}

_WRITES = ("pause", "resume", "undo")
_ABOUT_ONE = {"explain": "pod"} | dict.fromkeys(_WRITES, "placement")
# Seconds that undo waits, if it is to.
_UNDO_S = 300.0
_NO_PLACEMENT = PlacementName(name="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was typed.

    Attributes:
        command: One of status, explain, top, plan, pause, resume, undo, tiers,
            doctor and completion.
        output: One of table, json and yaml.
        kubeconfig: A file, or empty.
        context: One of its contexts, or empty.
        namespace: What -n says, or empty.
        all_namespaces: Whether -A was given.
        system: The namespace of the operator and the agents.
        pod: NAME or NAMESPACE/NAME, of explain.
        placement: Which one, of pause, resume and undo.
        container: Of explain; empty for all.
        files: Manifests, of plan; ``-`` for standard input.
        svg: Where to draw explain or top; ``-`` for standard output; empty for nowhere.
        shell: Of completion.
        wait_s: Seconds to listen, of explain and doctor.
        wait: Whether undo waits.
        timeout_s: For how many seconds, at most.
    """

    command: str
    output: str = "table"
    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    all_namespaces: bool = False
    system: str
    pod: str = ""
    placement: PlacementName = _NO_PLACEMENT
    container: str = ""
    files: tuple[str, ...] = ()
    svg: str = ""
    shell: str = ""
    wait_s: float = DOUBT_S
    wait: bool = False
    timeout_s: float = _UNDO_S


def parse(args: Sequence[str]) -> Options:
    """Parse them; ends the program with status 2 and a line about it if they make no sense."""
    reader = parser()
    found = vars(reader.parse_args(args))
    found.setdefault("system", os.environ.get("MEMPLACE_NAMESPACE") or "memplace-system")
    found["files"] = tuple(found.get("files", ()))
    options = Options(**found)
    if options.all_namespaces and options.namespace:
        reader.error("-n and -A are each other's opposite: give one")
    if options.namespace and options.command in ("tiers", "doctor"):
        reader.error(f"{options.command} is about the whole cluster: leave out -n")
    if options.all_namespaces and options.command in _ABOUT_ONE:
        one = _ABOUT_ONE[options.command]
        reader.error(
            f"{options.command} is about one {one}: leave out -A, and name its namespace with -n"
        )
    if options.all_namespaces and options.command == "plan":
        reader.error("plan is about manifests, which name their namespaces: leave out -A")
    return options


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    common = _common()
    whole = argparse.ArgumentParser(
        prog="kubectl memplace",
        description=(
            "Show on which memory tiers the memory of pods is, and why. Plan, pause and undo "
            "placements."
        ),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (about, more) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=f"{more}\n\n{_EPILOG}".lstrip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
            argument_default=argparse.SUPPRESS,
        )
        if name == "explain":
            command.add_argument(
                "pod", type=_pod, metavar="POD", help="the pod: NAME or NAMESPACE/NAME"
            )
            command.add_argument(
                "-c", "--container", help="explain this container only (default: all)"
            )
        if name == "completion":
            command.add_argument("shell", choices=sorted(SCRIPTS), help="the shell")
        if name in ("explain", "top"):
            command.add_argument(
                "--svg",
                metavar="FILE",
                help="also write the bars as an SVG picture to FILE; with - write the picture to "
                "standard output instead of the text (default: no picture)",
            )
        if name == "plan":
            command.add_argument(
                "-f",
                "--filename",
                dest="files",
                action="append",
                required=True,
                metavar="FILE",
                help="a file with MemoryPlacements, ClusterMemoryPlacements or MemoryTiers; - is "
                "standard input; may be repeated",
            )
        if name in _WRITES:
            command.add_argument(
                "placement",
                type=_placement,
                metavar="PLACEMENT",
                help="a MemoryPlacement: NAME or NAMESPACE/NAME; a ClusterMemoryPlacement: "
                "cmp/NAME",
            )
        if name == "undo":
            command.add_argument(
                "--wait",
                action="store_true",
                help="return when no container of the placement is placed any more",
            )
            command.add_argument(
                "--timeout",
                dest="timeout_s",
                type=_seconds,
                metavar="SECONDS",
                help=f"with --wait: return after this many seconds at the latest "
                f"(default: {_UNDO_S:.0f})",
            )
        if name in ("explain", "doctor"):
            command.add_argument(
                "--wait",
                dest="wait_s",
                type=_seconds,
                metavar="SECONDS",
                help=f"listen this many seconds for a heartbeat that seems old "
                f"(default: {DOUBT_S:.0f})",
            )
    return whole


def _common() -> argparse.ArgumentParser:
    # Before the command or after it, as kubectl has them: a default here would undo the other.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    add = common.add_argument_group("options as kubectl has them").add_argument
    add(
        "-n",
        "--namespace",
        help="the namespace of the pod, the placement or the manifest (default: that of the "
        "context; of status and top: all)",
    )
    add(
        "-A",
        "--all-namespaces",
        action="store_true",
        help="show all namespaces, as status and top do without -n",
    )
    add("--context", help="the context of the kubeconfig (default: the current one)")
    add("--kubeconfig", help="the kubeconfig file (default: $KUBECONFIG, or ~/.kube/config)")
    add(
        "-o",
        "--output",
        choices=("table", "json", "yaml"),
        help="the output format (default: table)",
    )
    common.add_argument(
        "--system-namespace",
        dest="system",
        metavar="NAMESPACE",
        help="the namespace of the operator and the agents (default: $MEMPLACE_NAMESPACE, or "
        "memplace-system)",
    )
    return common


def _pod(text: str) -> str:
    return _name(text.removeprefix("pods/").removeprefix("pod/"), text)


def _placement(text: str) -> PlacementName:
    try:
        return read_name(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def _name(bare: str, text: str) -> str:
    if not bare or bare.count("/") > 1 or not all(bare.split("/")):
        raise argparse.ArgumentTypeError(f"write NAME or NAMESPACE/NAME, not {text!r}")
    return bare


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"write seconds, such as 36, not {text!r}")
    return seconds
