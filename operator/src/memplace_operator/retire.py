# SPDX-License-Identifier: Apache-2.0
"""Have the agents undo everything while they still run, or take up their work again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from memplace.api.conditions import find_condition, is_true
from memplace.api.server import ApiError
from memplace.api.v1alpha1 import AgentMode, NodeMemory
from memplace.reasons import ConditionType

from memplace_operator.agents import reports
from memplace_operator.kinds import Kind, served_kinds
from memplace_operator.kubeapi import UNREACHABLE, KubeApi
from memplace_operator.pulses import Pulses

POLL_S = 1.0
# Nodes that are told at the same time.
_AT_ONCE = 16

Say = Callable[[str], None]

WHAT_TO_DO = """\
Nothing was deleted. Look at the log of the agent on each of them, then run helm uninstall again.
To go on without them (their memory stays as it was placed): helm uninstall --no-hooks
To keep memplace, have all agents work again, and helm rollback to the last revision
(helm history shows it):
  kubectl get nodememories -o name |
    xargs -I{} kubectl patch {} --type=merge --patch='{"spec":{"agent":"Active"}}'"""


async def retire(
    api: KubeApi,
    *,
    installation: str,
    timeout_s: float,
    advice: str = WHAT_TO_DO,
    say: Say = print,
) -> bool:
    """Tell the agents to retire and wait for those that are alive; deletes nothing.

    Args:
        api: The API server.
        installation: The uid of the agents' DaemonSet; empty: agents of any, for good.
        timeout_s: Seconds to wait at most.
        advice: What to say to an admin if that was too short.
        say: Takes a line of what happens.

    Returns:
        Whether all agents that live have retired.
    """
    deadline = time.monotonic() + timeout_s
    pulses, waiting = Pulses(), ["nothing is known of the nodes yet"]
    while True:
        began = time.monotonic()
        try:
            if not await served_kinds(api):
                say(
                    "the CRDs of memplace are gone, so no agent can be told to retire: agents "
                    "restored all policies when the placements went; seccomp profiles stay on nodes"
                )
                return True
            nodes = await reports(api)
            await _tell(api, nodes, installation, say)
            pulses.look(nodes)
            waiting = _waiting(nodes, pulses)
            if not waiting:
                say("all agents have retired")
                return True
        except (*UNREACHABLE, ApiError) as err:
            say(f"trying again: {err or type(err).__name__}")
        # Thousands of reports take seconds to list; somebody else wants the API server, too.
        pause = max(POLL_S, 2 * (time.monotonic() - began))
        if time.monotonic() + pause >= deadline:
            lines = "\n".join(f"  {line}" for line in waiting)
            say(f"not retired after {timeout_s:.0f} s:\n{lines}\n{advice}")
            return False
        await asyncio.sleep(pause)


async def resume(api: KubeApi, *, everybody: bool = False, say: Say = print) -> None:
    """Have the agents work again that an uninstall has retired.

    Args:
        api: The API server.
        everybody: Also those that an admin retired.
        say: Takes a line of what happens.
    """
    nodes = [n for n in await reports(api) if n.spec.agent is AgentMode.RETIRED]
    chosen = [n for n in nodes if everybody or not n.spec.is_retired_for_good]
    for node in nodes:
        if node not in chosen:
            say(f"node {node.name} was retired by an admin and stays so (--all: not)")
    await _patch(api, chosen, {"agent": AgentMode.ACTIVE, "installation": None})
    say(f"{len(chosen)} agents were told to place memory again")


async def _tell(api: KubeApi, nodes: Iterable[NodeMemory], installation: str, say: Say) -> None:
    # Whom an admin has retired for good is told already.
    new = [n for n in nodes if n.spec.mode_of(installation) is AgentMode.ACTIVE]
    spec: dict[str, str | None] = {"agent": AgentMode.RETIRED}
    if installation:
        spec["installation"] = installation
    await _patch(api, new, spec)
    if new:
        say(f"told the agents of {len(new)} nodes to retire: {_some(n.name for n in new)}")


async def _patch(api: KubeApi, nodes: Iterable[NodeMemory], spec: dict[str, str | None]) -> None:
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> None:
        async with room:
            await unless_gone(api, "PATCH", f"{Kind.NODE.path}/{name}", {"spec": spec})

    await asyncio.gather(*(one(node.name) for node in nodes))


def _waiting(nodes: Iterable[NodeMemory], pulses: Pulses) -> list[str]:
    return [
        f"node {node.name}: {_how_far(node)}"
        for node in sorted(nodes, key=lambda node: node.name)
        if not is_true(node.status.conditions, ConditionType.RETIRED)
        and not pulses.is_silent(node.name)
    ]


def _how_far(node: NodeMemory) -> str:
    found = find_condition(node.status.conditions, ConditionType.RETIRED)
    return f"{found.reason} ({found.message})" if found else "its agent has not answered yet"


def _some(names: Iterable[str], most: int = 20) -> str:
    found = sorted(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


async def unless_gone(
    api: KubeApi, method: str, path: str, body: object = None, **query: str
) -> bool:
    """Make a request; returns whether what it is about was there."""
    try:
        await api.request(method, path, body, **query)
    except ApiError as err:
        if err.status != 404:
            raise
        return False
    return True
