# SPDX-License-Identifier: Apache-2.0
"""What the operator keeps of an object: from its JSON, and no more than a verdict needs. Pure.

At 5,000 nodes each byte kept of a pod is a hundred thousand: so the strings that many objects
share are kept once, ids as numbers, and reports as they came, packed.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from memplace.api.conditions import Condition, find_condition, is_true
from memplace.api.convert import from_builtins
from memplace.api.objects import parse_cluster_placement, parse_placement
from memplace.api.v1alpha1 import (
    AgentMode,
    NumaNodeStatus,
    Placement,
    PlacementReport,
    PlacementStatus,
    Rule,
    TierNumaNodes,
    Truncated,
)
from memplace.errors import ValidationError
from memplace.nodes import NumaSet
from memplace.pods import Life, bare_id, decode_pod
from memplace.reasons import ConditionType

from memplace_operator.nodes import SeenLabels, labels_of

Raw = bytes | msgspec.Raw


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A placement that can't be parsed, with what a status needs.

    As of a `Placement`, ``namespace`` is empty for one of the cluster.
    """

    uid: str
    namespace: str
    name: str
    generation: int
    problem: str
    status: PlacementStatus = PlacementStatus()


class Pod(msgspec.Struct, frozen=True, gc=False):
    """A pod.

    Attributes:
        uid: Its uid.
        name: Its name.
        node: The Kubernetes node; empty before it is scheduled.
        life: Waiting, Running or Ended, as of `memplace.pods.PodState`.
        containers: Names of those that run.
        ids: What `id_number` makes of their ids, in the same order.
    """

    uid: str
    name: str
    node: str
    life: Life
    containers: tuple[str, ...]
    ids: tuple[int, ...]


class SeenPod(msgspec.Struct, frozen=True):
    """A pod as it came, with what the pods of a workload have in common."""

    namespace: str
    labels: Mapping[str, str]
    pod: Pod


class SeenNamespace(msgspec.Struct, frozen=True):
    """A namespace as it came."""

    uid: str
    name: str
    labels: Mapping[str, str]


class NodeHead(msgspec.Struct, frozen=True):
    """What a node's agent says of the node itself.

    Attributes:
        has_reported: Whether an agent ever wrote a status.
        is_retired: Whether its agent was told to stop placing, or has.
        unsupported: Why the node can't place memory (reason and message); None when it can.
        tiers: The tiers it has.
        truncated: How much the report has no room for.
    """

    has_reported: bool
    is_retired: bool
    unsupported: tuple[str, str] | None
    tiers: tuple[TierNumaNodes, ...]
    truncated: Truncated


class SeenNode(msgspec.Struct, frozen=True):
    """A NodeMemory as it came.

    Attributes:
        uid: Its uid.
        name: The Kubernetes node's name.
        heartbeat: Its heartbeatTime, not interpreted.
        head: What it says of the node.
        reports: Per placement uid what it says of that, for read_report(); equal bytes say
            the same.
        numa_nodes: Its NUMA nodes with memory.
    """

    uid: str
    name: str
    heartbeat: str
    head: NodeHead
    reports: Mapping[str, bytes]
    numa_nodes: tuple[NumaNodeStatus, ...] = ()


class _Meta(msgspec.Struct):
    name: str
    uid: str


class _NodeSpec(msgspec.Struct):
    agent: str = ""
    installation: str = ""


class _NodeStatus(msgspec.Struct, rename="camel"):
    conditions: tuple[Condition, ...] = ()
    heartbeat_time: str = ""
    numa_nodes: tuple[NumaNodeStatus, ...] = ()
    tiers: tuple[TierNumaNodes, ...] = ()
    truncated: Truncated = Truncated()
    placements: tuple[msgspec.Raw, ...] = ()


class _NodeMemory(msgspec.Struct):
    metadata: _Meta
    spec: _NodeSpec = msgspec.field(default_factory=_NodeSpec)
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class _LabelsMeta(msgspec.Struct):
    name: str
    uid: str
    labels: dict[str, str] | None = None


class _Labelled(msgspec.Struct):
    metadata: _LabelsMeta


class _Uid(msgspec.Struct):
    uid: str


class _Named(msgspec.Struct):
    metadata: _Uid


_NODE = msgspec.json.Decoder(_NodeMemory)
_LABELLED = msgspec.json.Decoder(_Labelled)
_UID = msgspec.json.Decoder(_Uid)
_NAMED = msgspec.json.Decoder(_Named)
_REPORT = msgspec.json.Decoder(PlacementReport)
_STATUS = msgspec.json.Decoder(PlacementStatus)


# Half of a report are names of fields, in the API server's order: compression that knows them
# keeps a quarter of it.
_FORM = (
    b'"conflicts":0,"message":"","name":"","namespace":"","observedGeneration":1,"pods":[{"con'
    b'tainers":[{"containerID":"containerd://","message":"","name":"","newMemory":"","reason":"'
    b'","rules":[{"bytes":0,"misplacedBytes":0,"name":"","numaNodes":[{"bytes":0,"id":0},{"byte'
    b's":0,"id":1},{"bytes":0,"id":2}],"ownRegions":0,"regions":1}],"state":"Moving"}],"name":"'
    b'","uid":""}],"reason":"","uid":"","state":"Placed"}],"name":"'
)
_WINDOW = -12


def _pack(report: msgspec.Raw) -> bytes:
    packer = zlib.compressobj(level=1, wbits=_WINDOW, memLevel=4, zdict=_FORM)
    return packer.compress(report) + packer.flush()


def uid_of(raw: Raw) -> str:
    """Return the uid of an object's JSON.

    Raises:
        msgspec.MsgspecError: It has none.
    """
    return _NAMED.decode(raw).metadata.uid


def id_number(container_id: str) -> int:
    """Return a number for a container's id, in this process the same for the same id.

    Two of a pod's lives that have one number by chance: once in 10^19.
    """
    return hash(bare_id(container_id))


def read_pod(raw: Raw) -> SeenPod:
    """Read a pod.

    Raises:
        ValidationError: It is none.
    """
    state = decode_pod(raw)
    ref = state.ref
    pod = Pod(
        uid=ref.uid,
        name=ref.name,
        node=sys.intern(state.node),
        life=state.life,
        containers=_shared_names(ref.containers),
        ids=tuple(id_number(state.container_ids[name]) for name in ref.containers),
    )
    return SeenPod(sys.intern(ref.namespace), ref.labels, pod)


def read_namespace(raw: Raw) -> SeenNamespace:
    """Read a namespace.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    meta = _LABELLED.decode(raw).metadata
    return SeenNamespace(meta.uid, sys.intern(meta.name), meta.labels or {})


def read_node(raw: Raw) -> SeenNode:
    """Read a NodeMemory; what a newer agent says in words unknown here stays in its report.

    Raises:
        ValidationError: It is none.
    """
    try:
        memory = _NODE.decode(raw)
        reports = {_UID.decode(each).uid: _pack(each) for each in memory.status.placements}
    except msgspec.MsgspecError as err:
        raise ValidationError("", str(err)) from err
    status = memory.status
    # Whether an installation that ends has retired is up to its agents to say.
    told = memory.spec.agent == AgentMode.RETIRED and not memory.spec.installation
    supported = find_condition(status.conditions, ConditionType.SUPPORTED)
    head = NodeHead(
        has_reported=bool(status.heartbeat_time),
        is_retired=told or is_true(status.conditions, ConditionType.RETIRED),
        unsupported=(supported.reason, supported.message)
        if supported and supported.status == "False"
        else None,
        tiers=_shared_tiers(status.tiers),
        truncated=status.truncated,
    )
    name = sys.intern(memory.metadata.name)
    numa_nodes = tuple(map(_shared_numa_node, status.numa_nodes))
    return SeenNode(memory.metadata.uid, name, status.heartbeat_time, head, reports, numa_nodes)


def read_labels(raw: Raw) -> SeenLabels:
    """Read the labels of a Node.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    meta = _LABELLED.decode(raw).metadata
    return labels_of(meta.uid, sys.intern(meta.name), meta.labels or {})


def read_report(content: bytes) -> PlacementReport | None:
    """Read what a node says of one placement; None when a newer agent says it in other words."""
    try:
        return _REPORT.decode(zlib.decompressobj(_WINDOW, zdict=_FORM).decompress(content))
    except msgspec.MsgspecError:
        return None


def read_placement(raw: Raw) -> Placement | Unreadable:
    """Read a MemoryPlacement; its parts that others have alike are theirs.

    Raises:
        msgspec.MsgspecError, KeyError, ValidationError: Not even its metadata makes sense.
    """
    obj: Mapping[str, Any] = msgspec.json.decode(raw)
    return _placement(obj, parse_placement, obj["metadata"]["namespace"])


def read_cluster_placement(raw: Raw) -> Placement | Unreadable:
    """Read a ClusterMemoryPlacement, as `read_placement`."""
    return _placement(msgspec.json.decode(raw), parse_cluster_placement, "")


def _placement(
    obj: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], Placement], namespace: str
) -> Placement | Unreadable:
    try:
        found = parse(obj)
    except ValidationError as err:
        return _unreadable(obj, namespace, str(err))
    spec = msgspec.structs.replace(found.spec, rules=_shared_rules(found.spec.rules))
    return msgspec.structs.replace(found, spec=spec, namespace=sys.intern(namespace))


def _unreadable(obj: Mapping[str, Any], namespace: str, problem: str) -> Unreadable:
    meta = obj["metadata"]
    try:
        status = from_builtins(obj.get("status") or {}, PlacementStatus, "status")
    except ValidationError:
        status = PlacementStatus()
    return Unreadable(
        uid=meta["uid"],
        namespace=namespace,
        name=meta["name"],
        generation=meta.get("generation", 0),
        problem=problem,
        status=status,
    )


def pack_status(status: PlacementStatus) -> bytes:
    """Return a status as it is kept; equal ones are equal bytes."""
    return msgspec.json.encode(status)


def unpack_status(content: bytes) -> PlacementStatus:
    """Return the status that was packed."""
    return _STATUS.decode(content)


@lru_cache(maxsize=1024)
def node_sets(tiers: tuple[TierNumaNodes, ...]) -> Mapping[str, NumaSet]:
    """Return tiers by name; nodes that are alike share one mapping."""
    return {tier.name: frozenset(tier.numa_nodes) for tier in tiers}


@lru_cache(maxsize=1024)
def _shared_tiers(tiers: tuple[TierNumaNodes, ...]) -> tuple[TierNumaNodes, ...]:
    return tiers


@lru_cache(maxsize=4096)
def _shared_numa_node(numa_node: NumaNodeStatus) -> NumaNodeStatus:
    return numa_node


@lru_cache(maxsize=4096)
def _shared_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(sys.intern, names))


@lru_cache(maxsize=4096)
def _shared_rules(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return rules
