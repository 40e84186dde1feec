# SPDX-License-Identifier: Apache-2.0
"""What was read about a pod, and what is said of it: the words of explain's ``-o json``. Pure.

An interface, as the CRDs are: names stay, new ones may come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from memplace.api.v1alpha1 import NodeMemory, Placement, TierBytes
from memplace.pods import PodState

from memplace_cli.beats import Pulse
from memplace_cli.facts import Unread


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """What was read about a pod.

    Attributes:
        pod: It.
        waiting: Per container that does not run, what the kubelet says of it.
        placements: All of its namespace, and of the cluster.
        unread: Placements there that this version does not understand.
        node: The report of its node; None if there is none, or it could not be read.
        node_readable: Whether that could be read.
        pulse: Whether the agent of the node lives.
        system: The namespace of the agents.
        agent_pod: The agent's pod on that node; empty if it is not known.
        node_labels: Of its node, if a placement asks for some; None if they are not known.
        left_out: Sentences: what could not be read.
    """

    pod: PodState
    waiting: Mapping[str, str] = field(default_factory=dict)
    placements: tuple[Placement, ...] = ()
    unread: tuple[Unread, ...] = ()
    node: NodeMemory | None = None
    node_readable: bool = True
    pulse: Pulse = Pulse.UNKNOWN
    system: str = ""
    agent_pod: str = ""
    node_labels: Mapping[str, str] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def here(self) -> tuple[Placement, ...]:
        """The placements there are on its node; where that is not known, all of them."""
        labels = self.node_labels
        if labels is None:
            return self.placements
        return tuple(each for each in self.placements if each.spec.selects_node(labels))


class _Said(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    pass


class Loser(_Said, frozen=True, kw_only=True):
    """A placement that the container does not follow, and why."""

    placement: str
    why: str


class RuleSaid(_Said, frozen=True, kw_only=True):
    """A rule: what it wants, and what it holds in the container, measured."""

    name: str
    wants: str
    regions: int = 0
    bytes: int = 0
    tiers: tuple[TierBytes, ...] = ()
    misplaced_bytes: int = 0
    own_regions: int = 0


class ContainerSaid(_Said, frozen=True, kw_only=True):
    """How a container fares.

    Attributes:
        name: Its name.
        placement: The placement it follows, one of the cluster as ``cluster/NAME``; empty for
            none.
        losers: The others of the namespace and of the cluster, those first that select it, too.
        reason: One word for machines; empty where no placement selects it.
        sentence: What that means in general.
        message: What it is here.
        advice: What to do.
        notes: What else is worth knowing.
        new_memory: What of the memory it gets later is placed from the first page on.
        tiers: Bytes of all rules, by tier.
        rules: Each rule.
    """

    name: str
    placement: str = ""
    losers: tuple[Loser, ...] = ()
    reason: str = ""
    sentence: str = ""
    message: str = ""
    advice: str = ""
    notes: tuple[str, ...] = ()
    new_memory: str = ""
    tiers: tuple[TierBytes, ...] = ()
    rules: tuple[RuleSaid, ...] = ()


class PodSaid(_Said, frozen=True, kw_only=True):
    """How a pod fares.

    Attributes:
        schema: Changes when a reader that knows the names would be wrong.
        namespace: Its namespace.
        name: Its name.
        node: The Kubernetes node; empty before it has one.
        life: Waiting, Running or Ended.
        backend: How the agent of the node acts.
        agent: Alive, Silent, Unknown, NeverReported or Retired.
        containers: Each.
        regions: Which command shows its regions; empty where the agent has none to show.
        left_out: Sentences: what could not be read.
    """

    schema: int = 1
    namespace: str
    name: str
    node: str
    life: str
    backend: str = ""
    agent: str = ""
    containers: tuple[ContainerSaid, ...] = ()
    regions: str = ""
    left_out: tuple[str, ...] = ()
