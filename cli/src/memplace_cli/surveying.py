# SPDX-License-Identifier: Apache-2.0
"""Read what there is where manifests would act: placements, pods, nodes and their labels.

A placement of the cluster means namespaces by their labels. Who may not list those plans with the
namespaces that they may read, and is told of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from memplace.api.objects import parse_tier
from memplace.api.paths import OURS, Plural, path_of
from memplace.api.v1alpha1 import MemoryTier, Placement
from memplace.assignment import means_namespace
from msgspec import UNSET

from memplace_cli.errors import Refused
from memplace_cli.facts import ClusterFacts, Labels, parse_all, parse_placements
from memplace_cli.fetch import Reader
from memplace_cli.planned import PlanFacts, PodSeen
from memplace_cli.pod_texts import pod_seen
from memplace_cli.words import joined

_NAMESPACES = "/api/v1/namespaces"
_PLACEMENTS = (OURS, Plural.PLACEMENTS)
_PODS = ("/api/v1", "pods")
_NODE_LABELS = "labels of nodes, which a nodeSelector asks for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is planned.

    Attributes:
        placements: The placements, as they would be.
        tiers: The MemoryTiers, as they would be.
    """

    placements: tuple[Placement, ...] = ()
    tiers: tuple[MemoryTier, ...] = ()

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those that have a placement of their own among them."""
        return tuple(dict.fromkeys(p.namespace for p in self.placements if not p.is_cluster))


def survey(reader: Reader, asked: Asked) -> PlanFacts:
    """Return what is there of the namespaces that are meant, beside nodes and MemoryTiers.

    Raises:
        Refused: No placements of them may be read.
    """
    reader.check_installed()
    return _Survey(reader, asked).facts()


@dataclass(slots=True)
class _Survey:
    reader: Reader
    asked: Asked
    left_out: list[str] = field(default_factory=list)
    is_partial: bool = False

    def facts(self) -> PlanFacts:
        nodes, unread = self.reader.nodes(self.left_out)
        of_cluster, unread_too = self.reader.of_cluster(self.left_out)
        labels = self._namespaces(of_cluster)
        spaces = self._spaces(of_cluster, labels)
        own, not_parsed = parse_placements(self._placements(spaces))
        placements = (*of_cluster, *own)
        pods = self._pods(spaces, labels)
        tiers = self.reader.attempt(self.left_out, "MemoryTiers", self._tiers)
        node_labels = self._node_labels(placements, tiers or ())
        return PlanFacts(
            facts=ClusterFacts(
                placements=placements,
                nodes=nodes,
                unread=(*unread, *unread_too, *not_parsed),
                left_out=tuple(self.left_out),
            ),
            pods=pods,
            tiers=tiers,
            node_labels=node_labels,
            is_partial=self.is_partial,
        )

    @property
    def _mine(self) -> tuple[str, ...]:
        # Where to look if not everywhere.
        return tuple(dict.fromkeys((self.reader.cluster.namespace, *self.asked.namespaces)))

    def _of_cluster_asked(self, live: Sequence[Placement]) -> list[Placement]:
        # As they would be and as they are: pods may come, and pods may leave.
        new = [each for each in self.asked.placements if each.is_cluster]
        names = {each.name for each in new}
        return [*new, *(each for each in live if each.name in names)]

    def _namespaces(self, live: Sequence[Placement]) -> dict[str, Labels]:
        cluster = self.reader.cluster
        if self._of_cluster_asked(live):
            try:
                return {m["name"]: m.get("labels") or {} for m in cluster.heads(_NAMESPACES)}
            except Refused as err:
                if err.code != 403:
                    raise
                self.is_partial = True
                self.left_out.append(f"other namespaces than {joined(self._mine)}: {err.said}")
            wanted = self._mine
        else:
            wanted = self.asked.namespaces if live else ()
        found = {name: self.reader.namespace_labels(name, self.left_out) for name in wanted}
        return {name: labels for name, labels in found.items() if labels is not None}

    def _spaces(self, live: Sequence[Placement], labels: Mapping[str, Labels]) -> tuple[str, ...]:
        asked = self._of_cluster_asked(live)
        meant = (n for n, has in labels.items() if any(means_namespace(p, has) for p in asked))
        return tuple(dict.fromkeys((*self.asked.namespaces, *meant)))

    def _placements(self, spaces: Sequence[str]) -> list[Mapping[str, Any]]:
        spaces, everywhere = self._reached("placements", *_PLACEMENTS, spaces)
        if everywhere is not None:
            return everywhere
        objects = self.reader.cluster.objects
        group, plural = _PLACEMENTS
        return [obj for n in spaces for obj in objects(f"{group}/namespaces/{n}/{plural}")]

    def _pods(
        self, spaces: Sequence[str], labels: Mapping[str, Labels]
    ) -> tuple[PodSeen, ...] | None:
        spaces, listed = self._reached("pods", *_PODS, spaces)
        if listed is None:
            listed = []
            for name in spaces:
                read = partial(self._objects, f"{_PODS[0]}/namespaces/{name}/pods")
                some = self.reader.attempt(self.left_out, f"pods of {name}", read)
                if some is None:
                    return None
                listed += some
        return tuple(_knowing(pod, labels) for pod in parse_all(listed, pod_seen)[0])

    def _objects(self, path: str) -> list[Mapping[str, Any]]:
        return list(self.reader.cluster.objects(path))

    def _reached(
        self, what: str, group: str, plural: str, spaces: Sequence[str]
    ) -> tuple[Sequence[str], list[Mapping[str, Any]] | None]:
        # One list for many namespaces; who may not have it gets what is theirs.
        if set(spaces) <= set(self.asked.namespaces):
            return spaces, None
        try:
            listed = self._objects(f"{group}/{plural}")
            wanted = set(spaces)
            return spaces, [each for each in listed if each["metadata"]["namespace"] in wanted]
        except Refused as err:
            if err.code != 403:
                raise
            mine = [name for name in spaces if name in self._mine]
            if len(mine) < len(spaces):
                self.is_partial = True
                others = joined(self._mine)
                self.left_out.append(f"{what} of other namespaces than {others}: {err.said}")
            return mine, None

    def _tiers(self) -> tuple[MemoryTier, ...]:
        listed = self.reader.cluster.objects(path_of(Plural.TIERS))
        return tuple(parse_all(listed, parse_tier)[0])

    def _node_labels(
        self, live: Sequence[Placement], tiers: Sequence[MemoryTier]
    ) -> dict[str, Labels] | None:
        placements = (*live, *self.asked.placements)
        asks = any(each.spec.node_selector for each in placements) or any(
            each.spec.node_selector is not UNSET for each in (*tiers, *self.asked.tiers)
        )
        if not asks:
            return {}
        heads = self.reader.cluster.heads
        return self.reader.attempt(
            self.left_out,
            _NODE_LABELS,
            lambda: {m["name"]: m.get("labels") or {} for m in heads("/api/v1/nodes")},
        )


def _knowing(pod: PodSeen, labels: Mapping[str, Labels]) -> PodSeen:
    ref = pod.state.ref
    ref = replace(ref, namespace_labels=labels.get(ref.namespace))
    return replace(pod, state=replace(pod.state, ref=ref))
