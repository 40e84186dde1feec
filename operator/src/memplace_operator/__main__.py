# SPDX-License-Identifier: Apache-2.0
"""``python3 -m memplace_operator``: run the operator, or one of its commands."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys

from memplace.errors import MemplaceError

from memplace_operator import app
from memplace_operator.kubeapi import KubeApi
from memplace_operator.retire import resume
from memplace_operator.selftest import selftest, table
from memplace_operator.settings import kopf_settings, settings_from_env
from memplace_operator.uninstall import Delete, Uninstall, uninstall


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments say and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except MemplaceError as err:
        print(f"{err}\n{err.HELP}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    settings = settings_from_env(os.environ)
    if options.command == "retire":
        return asyncio.run(_retire(options))
    if options.command == "resume":
        return asyncio.run(_resume(everybody=options.all))
    if options.command == "selftest":
        return asyncio.run(_selftest(options.service, options.timeout))
    app.configure_logging(settings.log_level)
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(app.run(settings))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="memplace_operator", description=__doc__)
    commands = parser.add_subparsers(dest="command", title="commands (default: run)")
    commands.add_parser("run", help="run the operator")
    _add_retire(commands.add_parser("retire", help="have all agents undo everything and retire"))
    chore = commands.add_parser("resume", help="reactivate agents that an uninstall retired")
    chore.add_argument("--all", action="store_true", help="also those that an admin retired")
    chore = commands.add_parser("selftest", help="check an installation, for helm test")
    chore.add_argument("--timeout", type=float, default=90, help="seconds (default: 90)")
    chore.add_argument(
        "--service",
        default=os.environ.get("MEMPLACE_OPERATOR_URL", ""),
        help="URL of the operator's Service (default: $MEMPLACE_OPERATOR_URL)",
    )
    return parser


def _add_retire(chore: argparse.ArgumentParser) -> None:
    chore.add_argument("--timeout", type=float, default=120, help="seconds (default: 120)")
    chore.add_argument(
        "--daemonset",
        default="memplace-agent",
        help="the DaemonSet of the agents, in the current namespace (default: memplace-agent)",
    )
    chore.add_argument(
        "--delete",
        action="append",
        type=Delete,
        choices=list(Delete),
        default=[],
        help="what to delete afterwards: agents (DaemonSet and NodeMemories), placements "
        "(and MemoryTiers), crds; may be repeated (default: nothing)",
    )
    chore.add_argument(
        "--force", action="store_true", help="retire even if Helm does not uninstall"
    )
    chore.add_argument("--hook", action="store_true", help="do nothing if Helm did not install")
    chore.add_argument(
        "--barrier",
        default="",
        help="a ConfigMap in the current namespace to delete when all is done (default: none)",
    )


async def _retire(options: argparse.Namespace) -> int:
    what = Uninstall(
        daemonset=options.daemonset,
        timeout_s=options.timeout,
        delete=frozenset(options.delete),
        force=options.force,
        is_hook=options.hook,
        barrier=options.barrier,
    )
    async with KubeApi(kopf_settings()) as api:
        return 0 if await uninstall(api, what) else 1


async def _resume(*, everybody: bool) -> int:
    async with KubeApi(kopf_settings()) as api:
        await resume(api, everybody=everybody)
    return 0


async def _selftest(service: str, timeout_s: float) -> int:
    async with KubeApi(kopf_settings()) as api:
        checks = await selftest(api, service=service, timeout_s=timeout_s)
    print(table(checks))
    return 0 if all(check.ok for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
