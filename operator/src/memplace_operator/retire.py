# SPDX-License-Identifier: Apache-2.0
"""Have the agents undo everything while they still run, or take up their work again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from memplace.api.conditions import find_condition, is_true
from memplace.api.server import ApiError
from memplace.api.v1alpha1 import AgentMode, NodeMemory
from memplace.reasons import ConditionType, Reason

from memplace_operator.agents import reports
from memplace_operator.kinds import Kind, served_kinds
from memplace_operator.kubeapi import UNREACHABLE, KubeApi
from memplace_operator.pulses import Pulses

POLL_S = 1.0
# What an agent can't undo, it can't undo later: somebody has to do something on the node. So long
# it is waited all the same, for who said it of an uninstall before this one.
CANNOT_S = 30.0
# Nodes that are told at the same time.
_AT_ONCE = 16

Say = Callable[[str], None]


class Refusals:
    """Since when which nodes say that they can't undo."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without knowing any; the clock only goes forward."""
        self._clock = clock
        self._since: dict[str, float] = {}

    def look(self, nodes: Iterable[NodeMemory]) -> None:
        """Take the reports, as read just now."""
        said = [node.name for node in nodes if _reason(node) == Reason.CANNOT_UNDO]
        self._since = {name: self._since.get(name, self._clock()) for name in said}

    def are_final(self, names: Iterable[str]) -> bool:
        """Return whether all of these have said so for `CANNOT_S`, one after the other look."""
        now = self._clock()
        return all(now - self._since.get(name, now) >= CANNOT_S for name in names)


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

    It does not wait on if all that are left have said for a while that they can't undo.

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
    pulses, refusals, waiting = Pulses(), Refusals(), ["nothing is known of the nodes yet"]
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
            refusals.look(nodes)
            left = _left(nodes, pulses)
            waiting = [f"node {node.name}: {_how_far(node)}" for node in left]
            if not left:
                say("all agents have retired")
                return True
            if refusals.are_final(node.name for node in left):
                say(_failed("not retired, and these agents can't undo all", waiting, advice))
                return False
        except (*UNREACHABLE, ApiError) as err:
            say(f"trying again: {err or type(err).__name__}")
        # Thousands of reports take seconds to list; somebody else wants the API server, too.
        pause = max(POLL_S, 2 * (time.monotonic() - began))
        if time.monotonic() + pause >= deadline:
            say(_failed(f"not retired after {timeout_s:.0f} s", waiting, advice))
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


def _left(nodes: Iterable[NodeMemory], pulses: Pulses) -> list[NodeMemory]:
    return [
        node
        for node in sorted(nodes, key=lambda node: node.name)
        if not is_true(node.status.conditions, ConditionType.RETIRED)
        and not pulses.is_silent(node.name)
    ]


def _failed(what: str, waiting: Iterable[str], advice: str) -> str:
    return "\n".join([f"{what}:", *(f"  {line}" for line in waiting), advice])


def _reason(node: NodeMemory) -> str:
    found = find_condition(node.status.conditions, ConditionType.RETIRED)
    return found.reason if found else ""


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
