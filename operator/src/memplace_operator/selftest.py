# SPDX-License-Identifier: Apache-2.0
"""What ``helm test`` runs: is what was installed really at work?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
from memplace.api.conditions import find_condition
from memplace.api.liveness import STALE_AFTER
from memplace.api.server import ApiError
from memplace.api.v1alpha1 import NodeMemory
from memplace.reasons import ConditionType

from memplace_operator.agents import reports
from memplace_operator.kinds import OUR_PLURALS, served_kinds
from memplace_operator.kubeapi import UNREACHABLE, KubeApi
from memplace_operator.pulses import Pulses

POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    what: str
    detail: str
    ok: bool


async def selftest(
    api: KubeApi, *, service: str, timeout_s: float, say: Callable[[str], None] = print
) -> tuple[Check, ...]:
    """Check again and again until all is well or the time is up.

    Args:
        api: The API server.
        service: URL of the operator's Service, for example ``http://memplace-operator:8080``;
            empty to leave that check out.
        timeout_s: Seconds; agents just installed need some.
        say: Takes a line of what is waited for, each time that changes.

    Returns:
        The last result of all checks.
    """
    deadline = time.monotonic() + timeout_s
    said, pulses = "", Pulses()
    while True:
        checks = tuple([check async for check in _checks(api, service, pulses)])
        waiting = "; ".join(f"{check.what}: {check.detail}" for check in checks if not check.ok)
        if not waiting or time.monotonic() >= deadline:
            return checks
        if waiting != said:
            say(f"waiting for {waiting}")
            said = waiting
        await asyncio.sleep(POLL_S)


def table(checks: tuple[Check, ...]) -> str:
    """Return the checks as lines of text with aligned columns."""
    width = max(len(check.what) for check in checks)
    return "\n".join(
        f"{'ok  ' if check.ok else 'FAIL'}  {check.what:<{width}}  {check.detail}"
        for check in checks
    )


async def _checks(api: KubeApi, service: str, pulses: Pulses) -> AsyncIterator[Check]:
    try:
        missing = OUR_PLURALS - await served_kinds(api)
        detail = f"missing: {', '.join(sorted(missing))}" if missing else "all served"
        yield Check("CRDs", detail, ok=not missing)
        if not missing:
            nodes = await reports(api)
            pulses.look(nodes)
            for check in _nodes(nodes, pulses):
                yield check
    except (*UNREACHABLE, ApiError) as err:
        yield Check("API server", f"{err or type(err).__name__}", ok=False)
    if service:
        yield await _service(service)


def _nodes(nodes: list[NodeMemory], pulses: Pulses) -> list[Check]:
    if not nodes:
        return [Check("agents", "no agent has reported: look at the agent's DaemonSet", ok=False)]
    return [_node(node, pulses) for node in sorted(nodes, key=lambda node: node.name)]


def _node(node: NodeMemory, pulses: Pulses) -> Check:
    what = f"agent on {node.name}"
    if not pulses.is_alive(node.name):
        quiet = f"no heartbeat in the last {STALE_AFTER.seconds} s: look at its pod"
        return Check(what, quiet, ok=False)
    supported = find_condition(node.status.conditions, ConditionType.SUPPORTED)
    if supported is None:
        return Check(what, "it does not say whether the node is supported", ok=False)
    tiers = ", ".join(tier.name for tier in node.status.tiers) or "none"
    said = f"Supported={supported.status} ({supported.reason}), tiers: {tiers}"
    return Check(what, said, ok=True)


async def _service(url: str) -> Check:
    what, timeout = "operator", aiohttp.ClientTimeout(total=10)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url.rstrip('/')}/readyz") as response,
        ):
            text = (await response.text()).strip()
            return Check(what, f"{url}/readyz: {text}", ok=response.status == 200)
    except UNREACHABLE as err:
        return Check(what, f"{url}/readyz: {err or type(err).__name__}", ok=False)
