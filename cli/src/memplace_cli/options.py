# SPDX-License-Identifier: Apache-2.0
"""What was typed, and the help."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from memplace_cli.beats import DOUBT_S
from memplace_cli.naming import PlacementName, read_name
from memplace_cli.shells import SCRIPTS

__all__ = ["COMMANDS", "Options", "parse", "parser"]

_EPILOG = """\
exit status:
  0 done; of doctor: all is well; of plan: nothing is in the way
  1 doctor found something wrong, plan what would not be placed, undo --wait what is left;
    or the command failed
  2 usage, or plan found a wrong manifest
  3 no such pod, container, placement or context, or no memplace in the cluster
  4 not permitted (401, 403)   5 no kubeconfig, or no cluster answers"""

COMMANDS = {
    "status": ("one screen: nodes, placements, and what needs attention", ""),
    "explain": (
        "why the memory of a pod is where it is, or is not placed",
        "examples:\n  kubectl memplace explain redis-0 -n cache\n"
        "  kubectl memplace explain cache/redis-0 -c redis -o yaml",
    ),
    "top": (
        "pods and their tiers as bars, the largest first",
        "Of each pod what the rules of its placements hold, as its agent measured it last.\n\n"
        "examples:\n  kubectl memplace top -n cache\n  watch kubectl memplace top",
    ),
    "plan": (
        "what manifests would do, before they are applied; changes nothing",
        "Checks them as the API server would, and asks it in a dry run; says which pods each\n"
        "placement would have and on which nodes, what it would win and lose, and what is in the\n"
        "way. Exit status: 0 nothing is in the way, 1 a container would not be placed, 2 a\n"
        "manifest is wrong.\n\n"
        "examples:\n  kubectl memplace plan -f placement.yaml -n cache\n"
        "  helm template app | kubectl memplace plan -f -",
    ),
    "pause": (
        "stop the work for a placement; what is in place stays",
        "examples:\n  kubectl memplace pause redis-on-cxl -n cache\n"
        "  kubectl memplace resume cache/redis-on-cxl",
    ),
    "resume": (
        "have the work for a placement go on, after pause or undo",
        "Sets spec.paused to false, and takes mode DryRun away if undo wrote it. A roll-out of it\n"
        "that is held goes on, too, whatever is wrong.",
    ),
    "undo": (
        "give back what was done for a placement, without deleting it",
        "Makes it a dry run (spec.mode: DryRun): agents give all policies back, pages stay where\n"
        "they are, and what would move is measured from then on.\n\n"
        "examples:\n  kubectl memplace undo redis-on-cxl -n cache --wait\n"
        "  kubectl memplace resume cache/redis-on-cxl",
    ),
    "tiers": ("nodes and their tiers: capacity, what placements have there, and why", ""),
    "doctor": (
        "check that memplace works: CRDs, operator, agents, heartbeats, conditions",
        "Whether somebody lives is told by a Lease that changes, not by comparing clocks. Where "
        f"a\nclock seems wrong it listens, for {DOUBT_S:.0f} s at most.",
    ),
    "completion": (
        "print what bash, zsh or fish needs to complete the command memplace",
        "kubectl needs nothing of it: it asks kubectl_complete-memplace on the path.\n\n"
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
        description="Show where the memory of pods is placed, and why; plan, pause and undo work.",
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
            command.add_argument("pod", type=_pod, metavar="POD", help="NAME or NAMESPACE/NAME")
            command.add_argument("-c", "--container", help="only this one (default: all)")
        if name == "completion":
            command.add_argument("shell", choices=sorted(SCRIPTS), help="which of them")
        if name in ("explain", "top"):
            command.add_argument(
                "--svg",
                metavar="FILE",
                help="draw it, too: bars by tier; - for standard output instead of the text",
            )
        if name == "plan":
            command.add_argument(
                "-f",
                "--filename",
                dest="files",
                action="append",
                required=True,
                metavar="FILE",
                help="manifests: MemoryPlacements and MemoryTiers; - for standard input",
            )
        if name in _WRITES:
            command.add_argument(
                "placement", type=_placement, metavar="PLACEMENT", help="NAME or NAMESPACE/NAME"
            )
        if name == "undo":
            command.add_argument(
                "--wait",
                action="store_true",
                help="wait until no container of it is placed any more",
            )
            command.add_argument(
                "--timeout",
                dest="timeout_s",
                type=_seconds,
                metavar="SECONDS",
                help=f"how long to wait, with --wait (default: {_UNDO_S:.0f})",
            )
        if name in ("explain", "doctor"):
            command.add_argument(
                "--wait",
                dest="wait_s",
                type=_seconds,
                metavar="SECONDS",
                help=f"how long to listen for who seems silent (default: {DOUBT_S:.0f})",
            )
    return whole


def _common() -> argparse.ArgumentParser:
    # Before the command or after it, as kubectl has them: a default here would undo the other.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    add = common.add_argument_group("options as kubectl has them").add_argument
    add(
        "-n",
        "--namespace",
        help="of the pod, placement or manifest; of status and top: only it (default: all)",
    )
    add("-A", "--all-namespaces", action="store_true", help="all of them, as without -n")
    add("--context", help="a context of the kubeconfig")
    add("--kubeconfig", help="the kubeconfig (default: $KUBECONFIG, or ~/.kube/config)")
    add("-o", "--output", choices=("table", "json", "yaml"), help="table, json or yaml")
    common.add_argument(
        "--system-namespace",
        dest="system",
        metavar="NAMESPACE",
        help="where memplace runs (default: $MEMPLACE_NAMESPACE, or memplace-system)",
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
