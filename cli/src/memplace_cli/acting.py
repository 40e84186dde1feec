# SPDX-License-Identifier: Apache-2.0
"""Pause, resume and undo: the three fields of a placement that the command writes."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from memplace.api.objects import parse_cluster_placement, parse_placement
from memplace.api.v1alpha1 import RolloutState, title_of
from memplace.kinds import Enforcement
from rich.console import Console
from rich.text import Text

from memplace_cli.cluster import MANAGER
from memplace_cli.errors import CommandFailed, Exit, Refused
from memplace_cli.fetch import Reader
from memplace_cli.naming import CLUSTER_KIND, OWN_KIND, PlacementName
from memplace_cli.undone import Left, left_by_nodes, left_by_operator
from memplace_cli.words import count, printable

_NOT_FOUND = 404
_DRY_RUN = Enforcement.DRY_RUN.value
_POLL_S = 1.0
# How many of those that are left are worth a screen.
_MOST = 8

_Json = dict[str, Any]


class Acted(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What pause or resume did.

    Attributes:
        namespace: Of the placement; empty for a ClusterMemoryPlacement.
        name: Its name.
        paused: What spec.paused says now.
        mode: What spec.mode says now.
        changed: Whether they said something else before.
        ignored_hold: Of a roll-out that was held and goes on all the same, the generation.
    """

    schema: int = 1
    namespace: str
    name: str
    paused: bool
    mode: str
    changed: bool
    ignored_hold: int = 0


class Undone(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What undo did.

    Attributes:
        namespace: Of the placement; empty for a ClusterMemoryPlacement.
        name: Its name.
        changed: Whether it was to be undone only now.
        unpaused: Whether it was paused, which had kept what is in place.
        waited: Whether what follows was looked at.
        done: Whether no container of it is placed any more, as far as that was looked at.
        left: What is not given back.
    """

    schema: int = 1
    namespace: str
    name: str
    changed: bool
    unpaused: bool = False
    waited: bool = False
    done: bool = False
    left: tuple[Left, ...] = ()


def pause(reader: Reader, of: PlacementName) -> Acted:
    """Write spec.paused.

    Raises:
        CommandFailed: There is no such placement, or it has no such field yet.
        Refused: It may not be read or written.
    """
    before = _get(reader, of, "pause")
    return _acted(before, _change(reader, of, before, {"paused": True}))


def resume(reader: Reader, of: PlacementName) -> Acted:
    """Take back what pause and undo wrote, and have a roll-out go on that is held.

    A dry run that a manifest asks for stays one.

    Raises:
        CommandFailed: As of `pause`.
        Refused: As of `pause`.
    """
    before = _get(reader, of, "resume")
    change: _Json = {"paused": False}
    if _mode(before) == _DRY_RUN and _is_ours(before, "mode"):
        # As it was before: what is not there is Enforce.
        change["mode"] = None
    held = _held(before)
    if held:
        change["rollout"] = before["spec"]["rollout"] | {"ignoreHoldOf": held}
    return _acted(before, _change(reader, of, before, change), held)


def undo(reader: Reader, of: PlacementName) -> Undone:
    """Have what was done for a placement given back; it stays, as a dry run.

    Raises:
        CommandFailed: As of `pause`.
        Refused: As of `pause`.
    """
    before = _get(reader, of, "undo")
    was_paused = _paused(before)
    # Paused keeps what is in place, whatever the mode.
    after = _change(reader, of, before, {"mode": _DRY_RUN, "paused": False})
    namespace = "" if of.is_cluster else of.namespace
    changed = after is not before
    return Undone(namespace=namespace, name=of.name, changed=changed, unpaused=was_paused)


def wait(reader: Reader, found: Undone, timeout_s: float) -> Undone:
    """Wait until no container of an undone placement is placed any more.

    Returns:
        What is left when the time is over; nothing if it is done.
    """
    deadline = time.monotonic() + timeout_s
    is_told = False
    while True:
        left = _left(reader, found)
        remaining = deadline - time.monotonic()
        if not left or remaining <= 0:
            return msgspec.structs.replace(found, waited=True, done=not left, left=left)
        if not is_told:
            reader.say(f"waiting for what is given back, for at most {timeout_s:.0f} s")
            is_told = True
        time.sleep(min(_POLL_S, remaining))


def _left(reader: Reader, found: Undone) -> tuple[Left, ...]:
    is_cluster = not found.namespace
    of = PlacementName(name=found.name, namespace=found.namespace, is_cluster=is_cluster)
    obj = _get(reader, of, "undo")
    if _paused(obj) or _mode(obj) != _DRY_RUN:
        raise CommandFailed(Exit.WRONG, f"somebody else has changed {of.title}: it is not undone")
    nodes = reader.nodes_if_allowed()
    if nodes is None:
        parse = parse_cluster_placement if is_cluster else parse_placement
        return left_by_operator(parse(obj))
    meta = obj["metadata"]
    return left_by_nodes(nodes, meta["uid"], meta["generation"])


def _get(reader: Reader, of: PlacementName, command: str) -> _Json:
    try:
        return reader.cluster.get(of.path)
    except Refused as err:
        if err.code == _NOT_FOUND:
            raise CommandFailed(Exit.NOT_THERE, _not_there(reader, of, command)) from err
        raise


def _not_there(reader: Reader, of: PlacementName, command: str) -> str:
    # Who means the other kind is told what to type.
    other = PlacementName(
        name=of.name,
        namespace=of.namespace or reader.cluster.namespace,
        is_cluster=not of.is_cluster,
    )
    where = "" if of.is_cluster else f" in namespace {of.namespace}"
    told = f"there is no {CLUSTER_KIND if of.is_cluster else OWN_KIND} {of.name}{where}"
    try:
        reader.cluster.get(other.path)
    except Refused:
        return f"{told}: kubectl memplace status lists all there are"
    its = f"namespace {other.namespace} has a {OWN_KIND} of that name"
    if other.is_cluster:
        its = f"a {CLUSTER_KIND} has that name"
    return f"{told}, but {its}: write kubectl memplace {command} {other.typed}"


def _change(reader: Reader, of: PlacementName, before: _Json, change: _Json) -> _Json:
    spec, defaults = before.get("spec") or {}, {"paused": False}
    change = {
        key: value for key, value in change.items() if spec.get(key, defaults.get(key)) != value
    }
    if not change:
        return before
    after = reader.cluster.patch(of.path, {"spec": change})
    for key, value in change.items():
        if after["spec"].get(key, defaults.get(key)) != value:
            raise CommandFailed(
                Exit.WRONG,
                f"the cluster's CRDs are older than spec.{key}: apply those of this version",
            )
    return after


def _acted(before: _Json, after: _Json, held: int = 0) -> Acted:
    meta = after["metadata"]
    return Acted(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        paused=_paused(after),
        mode=_mode(after),
        changed=after is not before,
        ignored_hold=held,
    )


def _held(obj: _Json) -> int:
    # The generation of a roll-out that is held, and was not told to go on; 0 for none.
    rollout = (obj.get("status") or {}).get("rollout") or {}
    asked = (obj.get("spec") or {}).get("rollout")
    if asked is None or rollout.get("state") != RolloutState.HOLDING:
        return 0
    return int(rollout["generation"])


def _paused(obj: _Json) -> bool:
    return bool((obj.get("spec") or {}).get("paused", False))


def _mode(obj: _Json) -> str:
    return str((obj.get("spec") or {}).get("mode", Enforcement.ENFORCE.value))


def _is_ours(obj: _Json, field: str) -> bool:
    # The API server keeps who wrote a field last; a manifest that names it takes it over.
    return any(
        each.get("manager") == MANAGER
        and f"f:{field}" in ((each.get("fieldsV1") or {}).get("f:spec") or {})
        for each in obj["metadata"].get("managedFields") or ()
    )


def show_acted(found: Acted, console: Console) -> None:
    """Print what was done and what follows from it."""
    word = "paused" if found.paused else "resumed"
    name = title_of(found.namespace, found.name)
    told = f"{name} {word}" if found.changed else f"{name} was {word} already"
    if found.ignored_hold:
        follows = (
            "its roll-out goes on whatever is wrong at the nodes that are released; the next "
            "change of its spec is held again"
        )
    elif found.paused:
        follows = "what is in place stays, and nothing new is done; kubectl memplace resume goes on"
    elif found.mode == _DRY_RUN:
        follows = (
            "it is a dry run, which its manifest asks for: set spec.mode to Enforce to have it act"
        )
    else:
        follows = "the work goes on from where it was"
    console.print(Text(printable(f"{told}: {follows}")))


def show_undone(found: Undone, console: Console) -> None:
    """Print what was done, and what is left."""
    name = title_of(found.namespace, found.name)
    if found.unpaused:
        console.print(Text(printable(f"{name} was paused, and is not any more")))
    resumes = "kubectl memplace resume has it placed again"
    if found.done:
        told = f"{name} is undone: no container of it is placed any more; pages stay where they are"
    elif found.waited:
        told = f"{name} is not undone yet: {count(len(found.left), 'thing')} left"
    else:
        told = f"{name} {'is' if found.changed else 'was already'} being undone"
        told += ": what was set is given back; pages stay where they are"
    console.print(Text(printable(f"{told}; {resumes}")))
    for each in found.left[:_MOST]:
        pod = f"{each.namespace}/{each.pod}" if each.namespace else each.pod
        what = f"container {each.container} of pod {pod}" if each.pod else "all of it"
        where = f" on node {each.node}" if each.node else ""
        said = f"{each.reason}: {each.message}" if each.message else each.reason
        console.print(Text(printable(f"  {what}{where}: {said}")))
    if len(found.left) > _MOST:
        console.print(Text(f"  and {len(found.left) - _MOST} more"))
