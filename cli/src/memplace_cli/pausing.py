# SPDX-License-Identifier: Apache-2.0
"""Stop the work for a placement, and have it go on: the one field that the command writes."""

from __future__ import annotations

import msgspec
from memplace.api.v1alpha1 import API_VERSION
from rich.console import Console
from rich.text import Text

from memplace_cli.cluster import Cluster
from memplace_cli.errors import CommandFailed, Exit, Refused
from memplace_cli.words import printable

__all__ = ["Pausing", "set_paused", "show_pausing"]

_NOT_FOUND = 404


class Pausing(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What was done.

    Attributes:
        namespace: Of the placement.
        name: Its name.
        paused: What spec.paused says now.
        changed: Whether it said something else before.
    """

    schema: int = 1
    namespace: str
    name: str
    paused: bool
    changed: bool


def set_paused(cluster: Cluster, namespace: str, name: str, *, paused: bool) -> Pausing:
    """Write spec.paused of a placement.

    Raises:
        CommandFailed: There is no such placement, or it has no such field yet.
        Refused: It may not be read or written.
    """
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/memoryplacements/{name}"
    try:
        before = cluster.get(path)
        was = bool((before.get("spec") or {}).get("paused", False))
        if was is not paused:
            now = cluster.patch(path, {"spec": {"paused": paused}})
            if bool(now["spec"].get("paused", False)) is not paused:
                raise CommandFailed(
                    Exit.WRONG,
                    "the cluster's CRDs are older than spec.paused: apply those of this version",
                )
    except Refused as err:
        if err.code == _NOT_FOUND:
            raise CommandFailed(
                Exit.NOT_THERE,
                f"there is no placement {name} in namespace {namespace}: kubectl memplace status "
                "lists all there are",
            ) from err
        raise
    return Pausing(namespace=namespace, name=name, paused=paused, changed=was is not paused)


def show_pausing(found: Pausing, console: Console) -> None:
    """Print what was done and what follows from it."""
    name = f"placement {found.namespace}/{found.name}"
    word = "paused" if found.paused else "resumed"
    told = f"{name} {word}" if found.changed else f"{name} was {word} already"
    follows = (
        "what is in place stays, and nothing new is done; kubectl memplace resume goes on"
        if found.paused
        else "the work goes on from where it was"
    )
    console.print(Text(printable(f"{told}: {follows}")))
