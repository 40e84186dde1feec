# SPDX-License-Identifier: Apache-2.0
"""Read from a cluster what the commands speak about.

Who may not read something is told so, and the rest goes on: a tenant may read one namespace.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from memplace.api.liveness import (
    DOUBT_S,
    LEASE_SELECTOR,
    LEASES,
    OPERATOR_LEASE,
    OPERATOR_LEASE_S,
    renewals,
)
from memplace.api.paths import OURS, Plural, path_of
from memplace.api.v1alpha1 import API_VERSION, NodeMemory, Placement
from memplace.errors import ValidationError
from memplace.pods import PodState, parse_pod
from memplace.reasons import ConditionType

from memplace_cli.beats import Listening, Pulse, signs_of
from memplace_cli.cluster import Cluster
from memplace_cli.crds import PLURALS
from memplace_cli.doctor import AgentPod, DoctorFacts
from memplace_cli.errors import CommandFailed, Exit, Refused
from memplace_cli.facts import (
    ClusterFacts,
    Labels,
    Unread,
    parse_cluster_placements,
    parse_node_memories,
    parse_placements,
)
from memplace_cli.pod_texts import waiting
from memplace_cli.said import PodFacts

_POLL_S = 2.0
# Of a pod, which Kubernetes spells as we do ours.
_READY = ConditionType.READY.value

_T = TypeVar("_T")
_Json = Mapping[str, Any]


@dataclass(slots=True)
class Reader:
    """Reads, and writes down what it may not read.

    Attributes:
        cluster: Where.
        system: The namespace of the operator and the agents.
        wait_s: How long to listen for signs of life, at most.
        say: Takes a line for people who wait.
    """

    cluster: Cluster
    system: str
    wait_s: float = DOUBT_S
    say: Callable[[str], None] = print

    def facts(self, namespace: str) -> ClusterFacts:
        """Return the placements of a namespace, or of all where it is empty, and all nodes.

        Who may not list them everywhere gets those of the context's namespace.
        """
        left_out: list[str] = []
        self.check_installed()
        placements, unread = self._placements(namespace, left_out)
        of_cluster, unread_too = self.of_cluster(left_out)
        nodes, of_nodes = self.nodes(left_out)
        return ClusterFacts(
            placements=(*of_cluster, *placements),
            nodes=nodes,
            unread=(*unread_too, *unread, *of_nodes),
            left_out=tuple(left_out),
        )

    def nodes_only(self) -> ClusterFacts:
        """Return all nodes.

        Raises:
            Refused: They may not be read.
        """
        self.check_installed()
        nodes, unread = parse_node_memories(self.cluster.objects(path_of(Plural.NODES)))
        left_out = tuple(f"node {each.name}, not understood: {each.problem}" for each in unread)
        return ClusterFacts(nodes=nodes, left_out=left_out)

    def top_facts(self, namespace: str) -> ClusterFacts:
        """Return all nodes; to who may not read them the placements, as `facts` does.

        Raises:
            Refused: Neither may be read.
        """
        try:
            return self.nodes_only()
        except Refused as err:
            if err.code != 403:
                raise
            return self.facts(namespace)

    def nodes_if_allowed(self) -> tuple[NodeMemory, ...] | None:
        """Return all nodes that are understood; None if they may not be read."""
        return self.nodes([])[0]

    def pod_facts(self, namespace: str, name: str) -> PodFacts:
        """Return what there is about one pod.

        Raises:
            CommandFailed: There is no such pod, or it or the placements may not be read.
        """
        self.check_installed()
        obj = self.cluster.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        try:
            pod = parse_pod(obj)
        except ValidationError as err:
            raise CommandFailed(Exit.WRONG, f"pod {name} is not understood: {err}") from err
        listed = self.cluster.objects(path_of(Plural.PLACEMENTS, namespace=namespace))
        placements, unread = parse_placements(listed)
        left_out: list[str] = []
        besides: list[str] = []
        of_cluster, unread_too = self.of_cluster(besides)
        if of_cluster or unread_too:
            pod = self._with_namespace(pod, besides)
        facts = PodFacts(
            pod=pod,
            waiting=waiting(obj),
            placements=(*placements, *of_cluster),
            unread=(*unread, *unread_too),
            system=self.system,
        )
        if pod.node and any(each.spec.node_selector for each in facts.placements):
            facts = replace(facts, node_labels=self._node_labels(pod.node, left_out))
        found = self._with_node(facts, pod, left_out)
        return replace(found, left_out=(*left_out, *besides))

    def _node_labels(self, node: str, left_out: list[str]) -> Mapping[str, str] | None:
        what = f"labels of node {node}, which a spec.nodeSelector asks for"
        obj = self.attempt(left_out, what, lambda: self.cluster.get(f"/api/v1/nodes/{node}"))
        return None if obj is None else dict(obj["metadata"].get("labels") or {})

    def doctor_facts(self) -> DoctorFacts:
        """Return what the checks need; listens for those whose clocks seem to be wrong."""
        left_out: list[str] = []
        served = self._served()
        facts = ClusterFacts(placements=None, nodes=None)
        if served >= PLURALS - {Plural.CLUSTER_PLACEMENTS}:
            # Who may read little may see what that shows all the same.
            facts = self.attempt(left_out, "placements", lambda: self.facts("")) or facts
            left_out += facts.left_out
        found = DoctorFacts(facts=facts, namespace=self.system, served=served)
        crds = self.attempt(left_out, "versions of the CRDs", self._crds) if served else {}
        found = self._with_agents(replace(found, crds=crds or None), left_out)
        found = self._with_pulses(found, left_out)
        return replace(found, facts=replace(facts, left_out=tuple(left_out)))

    def attempt(self, left_out: list[str], what: str, read: Callable[[], _T]) -> _T | None:
        """Return what is read; None, and a sentence more, if it may not be or is not there."""
        try:
            return read()
        except Refused as err:
            if err.code not in (403, 404):
                raise
            left_out.append(f"{what}: {err.said}")
            return None

    def check_installed(self) -> None:
        """Look whether the cluster has memplace.

        Raises:
            CommandFailed: It has not.
        """
        if not self._served():
            raise CommandFailed(
                Exit.NOT_THERE,
                f"this cluster has no memplace: its API server does not serve {API_VERSION}. "
                "Install it: helm install memplace charts/memplace -n memplace-system "
                "--create-namespace",
            )

    def _served(self) -> frozenset[Plural]:
        try:
            found = self.cluster.get(OURS)
        except Refused as err:
            if err.code == 404:
                return frozenset()
            raise
        names = {each["name"] for each in found.get("resources") or ()}
        return frozenset(plural for plural in PLURALS if plural in names)

    def _placements(
        self, namespace: str, left_out: list[str]
    ) -> tuple[tuple[Placement, ...], list[Unread]]:
        path = path_of(Plural.PLACEMENTS, namespace=namespace)
        try:
            return parse_placements(self.cluster.objects(path))
        except Refused as err:
            if err.code != 403 or namespace:
                raise
            only = self.cluster.namespace
            left_out.append(f"placements of other namespaces than {only}: {err.said}")
            return self._placements(only, left_out)

    def of_cluster(self, left_out: list[str]) -> tuple[tuple[Placement, ...], list[Unread]]:
        """Return the ClusterMemoryPlacements, and those that are not understood."""
        try:
            listed = self.cluster.objects(path_of(Plural.CLUSTER_PLACEMENTS))
            return parse_cluster_placements(listed)
        except Refused as err:
            if err.code == 403:
                left_out.append(f"placements of the cluster: {err.said}")
            elif err.code != 404:  # of CRDs that are older
                raise
            return (), []

    def _with_namespace(self, pod: PodState, left_out: list[str]) -> PodState:
        labels = self.namespace_labels(pod.ref.namespace, left_out)
        return replace(pod, ref=replace(pod.ref, namespace_labels=labels))

    def namespace_labels(self, name: str, left_out: list[str]) -> Labels | None:
        """Return the labels of a namespace; None if they may not be read."""
        what = f"labels of namespace {name}, which placements of the cluster ask for"
        found = self.attempt(left_out, what, lambda: self.cluster.get(f"/api/v1/namespaces/{name}"))
        return None if found is None else found["metadata"].get("labels") or {}

    def nodes(self, left_out: list[str]) -> tuple[tuple[NodeMemory, ...] | None, list[Unread]]:
        """Return the NodeMemories, None if they may not be read, and those not understood."""

        def read() -> tuple[tuple[NodeMemory, ...], list[Unread]]:
            return parse_node_memories(self.cluster.objects(path_of(Plural.NODES)))

        return self.attempt(left_out, "nodes and tiers", read) or (None, [])

    def _crds(self) -> dict[Plural, _Json]:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        return {plural: self.cluster.get(f"{path}/{plural.crd}") for plural in PLURALS}

    # --- one pod ---

    def _with_node(self, facts: PodFacts, pod: PodState, left_out: list[str]) -> PodFacts:
        if not pod.node:
            return facts
        try:
            obj = self.cluster.get(path_of(Plural.NODES, name=pod.node))
        except Refused as err:
            if err.code == 404:
                return facts
            if err.code != 403:
                raise
            left_out.append(f"what the agent of node {pod.node} reports: {err.said}")
            return replace(facts, node_readable=False)
        nodes, unread = parse_node_memories([obj])
        if unread:
            left_out.append(f"what the agent reports is not understood: {unread[0].problem}")
            return replace(facts, node_readable=False)
        pods = self.attempt(left_out, "the agent's pod", lambda: self._agent_pods(pod.node))
        facts = replace(facts, node=nodes[0], agent_pod=pods[0].name if pods else "")
        leases = self.attempt(left_out, "the agents' heartbeats", self._leases)
        if not leases:
            return facts
        listening = Listening(signs_of(nodes, leases), _now())
        waited = self._listen(listening, lambda: signs_of(nodes, self._leases()), pod.node)
        pulse = listening.pulses(waited_s=waited)[pod.node]
        return replace(facts, pulse=pulse)

    # --- who lives ---

    def _leases(self) -> dict[str, datetime]:
        path = f"{LEASES}/namespaces/{self.system}/leases"
        return renewals(self.cluster.objects(path, labelSelector=LEASE_SELECTOR))

    def _with_pulses(self, found: DoctorFacts, left_out: list[str]) -> DoctorFacts:
        leases = self.attempt(left_out, "the agents' heartbeats", self._leases)
        lease = self.attempt(left_out, "the operator's Lease", self._operator)
        if leases is None or lease is None:
            return found
        holder, renewed = lease
        nodes = found.facts.nodes or ()
        agents = Listening(signs_of(nodes, leases), _now())
        fresh = timedelta(seconds=OPERATOR_LEASE_S)
        operator = Listening({OPERATOR_LEASE: renewed} if holder else {}, _now(), fresh)

        def again() -> None:
            agents.hear(signs_of(nodes, self._leases()))
            operator.hear({OPERATOR_LEASE: self._operator()[1]})

        waited = self._listen_all((agents, operator), again, "agents and operator")
        said = operator.pulses(waited_s=waited).get(OPERATOR_LEASE, Pulse.SILENT)
        return replace(found, operator=(holder, said), pulses=agents.pulses(waited_s=waited))

    def _operator(self) -> tuple[str, datetime | None]:
        path = f"{LEASES}/namespaces/{self.system}/leases/{OPERATOR_LEASE}"
        try:
            lease = self.cluster.get(path)
        except Refused as err:
            if err.code == 404:
                return "", None
            raise
        renewed = renewals([lease]).get(OPERATOR_LEASE)
        return str(lease.get("spec", {}).get("holderIdentity") or ""), renewed

    def _listen(
        self, listening: Listening, look: Callable[[], dict[str, datetime | None]], whom: str
    ) -> float:
        def again() -> None:
            listening.hear(look())

        return self._listen_all((listening,), again, f"the agent of node {whom}")

    def _listen_all(
        self, all_of_them: tuple[Listening, ...], again: Callable[[], None], whom: str
    ) -> float:
        started = time.monotonic()
        if any(each.doubtful for each in all_of_them) and self.wait_s:
            self.say(f"listening for {whom}, for at most {self.wait_s:.0f} s")
        while any(each.doubtful for each in all_of_them):
            left = self.wait_s - (time.monotonic() - started)
            if left <= 0:
                break
            time.sleep(min(_POLL_S, left))
            again()
        # A sleep may end a moment early.
        return self.wait_s

    def _with_agents(self, found: DoctorFacts, left_out: list[str]) -> DoctorFacts:
        def sets() -> list[_Json]:
            path = f"/apis/apps/v1/namespaces/{self.system}/daemonsets"
            return list(self.cluster.objects(path, labelSelector=LEASE_SELECTOR))

        listed = self.attempt(left_out, "the agents' DaemonSet", sets)
        running = self.attempt(left_out, "the agents' pods", self._agent_pods)
        if listed is None or running is None:
            return found
        statuses = [each.get("status") or {} for each in listed]
        desired = sum(each.get("desiredNumberScheduled", 0) for each in statuses)
        return replace(found, has_daemonset=bool(listed), desired=desired, pods=running)

    def _agent_pods(self, node: str = "") -> tuple[AgentPod, ...]:
        path = f"/api/v1/namespaces/{self.system}/pods"
        query = {"labelSelector": LEASE_SELECTOR} | (
            {"fieldSelector": f"spec.nodeName={node}"} if node else {}
        )
        return tuple(map(_agent_pod, self.cluster.objects(path, **query)))


def _agent_pod(obj: _Json) -> AgentPod:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    ready = any(c.get("type") == _READY and c.get("status") == "True" for c in conditions)
    node = (obj.get("spec") or {}).get("nodeName") or ""
    return AgentPod(obj["metadata"]["name"], node, ready)


def _now() -> datetime:
    return datetime.now(UTC)
