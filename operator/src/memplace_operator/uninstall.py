# SPDX-License-Identifier: Apache-2.0
"""The chart's pre-delete hook: retire the agents, then delete what nobody else would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from memplace.api.paths import placement_path
from memplace.api.server import ApiError

from memplace_operator.kinds import OUR_PLURALS, Kind, served_kinds
from memplace_operator.kubeapi import UNREACHABLE, KubeApi
from memplace_operator.retire import POLL_S, WHAT_TO_DO, Say, retire, unless_gone

# An agent ends within 2 s; one on a node that is away, when the node is back.
AGENTS_END_S = 40.0
# A CRD is there until the API server has deleted its objects: a second or two.
CRDS_END_S = 20.0

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# Only a Helm that really installs writes this: `helm template` does not.
_RELEASE = "meta.helm.sh/release-name"
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_BEHIND_A_BARRIER = """\
Nothing was deleted. This is tried again until they retire. Look at the log of the agent on each
of them. The documentation says how to go on without them: page "Install", below "Argo CD"."""


class Delete(StrEnum):
    """What may be deleted once the agents have retired."""

    AGENTS = "agents"
    PLACEMENTS = "placements"
    CRDS = "crds"


class Origin(StrEnum):
    """Who looks after the DaemonSet of the agents."""

    HELM = "Helm"
    DOUBTFUL = "Helm, and somebody else"
    OTHER = "somebody else"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uninstall:
    """What to do.

    Attributes:
        daemonset: Name of the agents' DaemonSet, in our own namespace.
        timeout_s: Seconds that the agents may take to retire.
        delete: What to delete after that.
        force: Do it even though this can't be Helm's uninstall.
        is_hook: Run by a manifest, which others than Helm may have applied.
        barrier: A ConfigMap in our own namespace, deleted last; empty means none. Argo CD deletes
            nothing while it is there.
    """

    daemonset: str
    timeout_s: float
    delete: frozenset[Delete] = frozenset()
    force: bool = False
    is_hook: bool = False
    barrier: str = ""


def origin(daemonset: Mapping[str, Any]) -> Origin:
    """Return whether a DaemonSet is Helm's alone.

    ``kubectl apply`` of rendered manifests runs hooks as ordinary Jobs, at installation, and on
    what Helm had installed it leaves Helm's mark.
    """
    meta = daemonset["metadata"]
    annotations = meta.get("annotations") or {}
    appliers = [f["manager"] for f in meta.get("managedFields") or () if f["operation"] == "Apply"]
    if not annotations.get(_RELEASE):
        return Origin.OTHER
    # Helm, Flux's helm-controller and Terraform's provider all have it in their names.
    if _APPLIED in annotations or any("helm" not in name for name in appliers):
        return Origin.DOUBTFUL
    return Origin.HELM


async def uninstall(api: KubeApi, what: Uninstall, *, say: Say = print) -> bool:
    """Retire the agents and delete what was asked for, in this order; returns whether done."""
    try:
        found = await _found(api, what, say)
    except (*UNREACHABLE, ApiError) as err:
        say(f"nothing done: {err or type(err).__name__}")
        return False
    if found is not None and not what.force and (whose := origin(found)) is not Origin.HELM:
        say(_refusal(what, whose))
        return what.is_hook and whose is Origin.OTHER
    if found is None and not what.force:
        say(f"no DaemonSet {api.namespace}/{what.daemonset}, so no agents: nothing to do")
        return what.is_hook
    uid = found["metadata"]["uid"] if found else ""
    advice = _BEHIND_A_BARRIER if what.barrier else WHAT_TO_DO
    if not await retire(api, installation=uid, timeout_s=what.timeout_s, advice=advice, say=say):
        return False
    try:
        await _delete(api, what, say)
    except (*UNREACHABLE, ApiError) as err:
        say(f"all agents have retired, but not everything is deleted: {err or type(err).__name__}")
        return False
    return True


def _refusal(what: Uninstall, whose: Origin) -> str:
    if whose is Origin.OTHER:
        why = "was not installed by Helm, so this is no helm uninstall"
    else:
        why = "was installed by Helm and then applied by others, who may have started this"
    return (
        f"nothing done: DaemonSet {what.daemonset} {why}. To retire the agents all the same: "
        "retire --force (for Argo CD: uninstall.argocd=true in the chart's values). To leave this "
        "Job out: uninstall.retire=false"
    )


async def _found(api: KubeApi, what: Uninstall, say: Say) -> Mapping[str, Any] | None:
    # A pod's network, and the rights of an account just made, can be seconds behind.
    deadline = time.monotonic() + what.timeout_s
    while True:
        try:
            return await _daemonset(api, what.daemonset)
        except (*UNREACHABLE, ApiError) as err:
            if time.monotonic() >= deadline:
                raise
            say(f"trying again: {err or type(err).__name__}")
        await asyncio.sleep(POLL_S)


async def _daemonset(api: KubeApi, name: str) -> Mapping[str, Any] | None:
    try:
        return await api.request("GET", _path(api, name))
    except ApiError as err:
        if err.status != 404:
            raise
        return None


def _path(api: KubeApi, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{api.namespace}/daemonsets/{name}"


async def _delete(api: KubeApi, what: Uninstall, say: Say) -> None:
    if Delete.AGENTS in what.delete:
        # First the agents: one that lives makes its NodeMemory again, which says Active.
        await _end_agents(api, what.daemonset, say)
        await unless_gone(api, "DELETE", Kind.NODE.path)
        say("deleted all NodeMemories")
    if Delete.PLACEMENTS in what.delete:
        await _delete_placements(api, say)
        await unless_gone(api, "DELETE", Kind.TIER.path)
        say("deleted all MemoryTiers")
    if Delete.CRDS in what.delete:
        await _delete_crds(api, say)
    if what.barrier:
        path = f"/api/v1/namespaces/{api.namespace}/configmaps/{what.barrier}"
        await unless_gone(api, "DELETE", path)


async def _end_agents(api: KubeApi, name: str, say: Say) -> None:
    # In the foreground it is there as long as one of its pods is.
    await unless_gone(api, "DELETE", _path(api, name), propagationPolicy="Foreground")
    deadline = time.monotonic() + AGENTS_END_S
    while await _daemonset(api, name) is not None:
        if time.monotonic() >= deadline:
            say("some agents have not ended: their nodes do not answer")
            return
        await asyncio.sleep(POLL_S)
    say("all agents have ended")


async def _delete_placements(api: KubeApi, say: Say) -> None:
    served = await served_kinds(api)
    for kind in (Kind.PLACEMENT, Kind.CLUSTER_PLACEMENT):
        if kind.value[1] in served:
            found = [o["metadata"] async for o in api.objects(kind.path, metadata_only=True)]
            for meta in found:
                await _delete_placement(api, meta, say)


async def _delete_placement(api: KubeApi, meta: Mapping[str, Any], say: Say) -> None:
    namespace, name = meta.get("namespace", ""), meta["name"]
    if await unless_gone(api, "DELETE", placement_path(namespace, name)):
        what = f"MemoryPlacement {namespace}/" if namespace else "ClusterMemoryPlacement "
        say(f"deleted {what}{name}")


async def _delete_crds(api: KubeApi, say: Say) -> None:
    # Who installs again at once must not meet a CRD on its way out. To ask again is to see it.
    names = sorted(plural.crd for plural in OUR_PLURALS)
    deadline = time.monotonic() + CRDS_END_S
    while names := [n for n in names if await unless_gone(api, "DELETE", f"{_CRDS}/{n}")]:
        if time.monotonic() >= deadline:
            say(f"the API server still deletes {', '.join(names)}: see finalizers of its objects")
            return
        await asyncio.sleep(POLL_S)
    say("deleted the CRDs")
