# SPDX-License-Identifier: Apache-2.0
"""The chart's pre-delete hook: have the agents undo everything while they still run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from memplace.api.conditions import is_true
from memplace.api.convert import to_builtins
from memplace.api.liveness import is_alive
from memplace.api.v1alpha1 import API_VERSION, AgentMode, NodeMemorySpec
from memplace.reasons import ConditionType

from memplace_operator.agents import reports
from memplace_operator.kinds import Kind, served_kinds
from memplace_operator.kubeapi import UNREACHABLE, ApiError, KubeApi

POLL_S = 1.0

_RETIRE = {"spec": to_builtins(NodeMemorySpec(agent=AgentMode.RETIRED))}


async def retire(api: KubeApi, *, timeout_s: float, say: Callable[[str], None] = print) -> bool:
    """Delete all placements, tell all agents to retire, wait for those that are alive.

    Args:
        api: The API server.
        timeout_s: Seconds to wait at most.
        say: Takes a line of what happens.

    Returns:
        Whether all agents with a live heartbeat have retired.
    """
    deadline = time.monotonic() + timeout_s
    told = waiting = frozenset[str]()
    while True:
        try:
            if not await served_kinds(api):
                say("no CRDs of memplace: nothing to do")
                return True
            await _delete_placements(api, say)
            told |= await _tell(api, told, say)
            waiting = await _waiting(api)
            if not waiting:
                say("all agents have retired")
                return True
        except (*UNREACHABLE, ApiError) as err:
            say(f"trying again: {err or type(err).__name__}")
        if time.monotonic() >= deadline:
            say(
                f"not retired after {timeout_s:.0f} s: {', '.join(sorted(waiting)) or 'unknown'}: "
                "look at the log of the agent there and run this again; "
                "helm uninstall --no-hooks goes on without"
            )
            return False
        await asyncio.sleep(POLL_S)


async def _delete_placements(api: KubeApi, say: Callable[[str], None]) -> None:
    found = [o["metadata"] async for o in api.objects(Kind.PLACEMENT.path, metadata_only=True)]
    for meta in (m for m in found if "deletionTimestamp" not in m):
        namespace, name = meta["namespace"], meta["name"]
        path = f"/apis/{API_VERSION}/namespaces/{namespace}/memoryplacements/{name}"
        if await _unless_gone(api, "DELETE", path):
            say(f"deleted MemoryPlacement {namespace}/{name}")


async def _tell(api: KubeApi, told: frozenset[str], say: Callable[[str], None]) -> frozenset[str]:
    names = {node.name for node in await reports(api) if node.spec.agent is AgentMode.ACTIVE}
    for name in sorted(names):
        if (
            await _unless_gone(api, "PATCH", f"{Kind.NODE.path}/{name}", _RETIRE)
            and name not in told
        ):
            say(f"told the agent of node {name} to retire")
    return frozenset(names)


async def _waiting(api: KubeApi) -> frozenset[str]:
    now = datetime.now(UTC)
    return frozenset(
        node.name
        for node in await reports(api)
        if is_alive(node, now) and not is_true(node.status.conditions, ConditionType.RETIRED)
    )


async def _unless_gone(api: KubeApi, method: str, path: str, body: object = None) -> bool:
    try:
        await api.request(method, path, body)
    except ApiError as err:
        if err.status != 404:
            raise
        return False
    return True
