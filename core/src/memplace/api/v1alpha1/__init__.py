# SPDX-License-Identifier: Apache-2.0
"""The four kinds of memplace.dev/v1alpha1; the only place that knows names of fields.

Spec structs refuse unknown fields, since doing half of what a manifest says is worse
than saying no; status structs tolerate them, so that an older reader survives a newer
writer. ``crds/*.yaml`` is the source of truth; tests/crd holds the two together.
"""

from memplace.api.v1alpha1.common import (
    API_VERSION,
    GROUP,
    OTHER_TIER,
    VERSION,
)
from memplace.api.v1alpha1.node import (
    AgentMode,
    Backend,
    BackendName,
    ContainerReport,
    ContainerState,
    NodeBytes,
    NodeMemory,
    NodeMemorySpec,
    NodeMemoryStatus,
    NumaNodeStatus,
    PlacementReport,
    PodReport,
    RuleReport,
    TierNodes,
    Truncated,
)
from memplace.api.v1alpha1.placement import (
    ClusterPlacementSpec,
    LabelSelector,
    Level,
    Migration,
    Operator,
    Placement,
    PlacementSpec,
    PlacementStatus,
    PodStatus,
    PolicySpec,
    RegionEntry,
    Requirement,
    Rollout,
    RolloutState,
    RolloutStatus,
    Rule,
    RuleStatus,
    TierBytes,
    title_of,
)
from memplace.api.v1alpha1.tier import (
    MemoryTier,
    TierSpec,
)

__all__ = [
    "API_VERSION",
    "GROUP",
    "OTHER_TIER",
    "VERSION",
    "AgentMode",
    "Backend",
    "BackendName",
    "ClusterPlacementSpec",
    "ContainerReport",
    "ContainerState",
    "LabelSelector",
    "Level",
    "MemoryTier",
    "Migration",
    "NodeBytes",
    "NodeMemory",
    "NodeMemorySpec",
    "NodeMemoryStatus",
    "NumaNodeStatus",
    "Operator",
    "Placement",
    "PlacementReport",
    "PlacementSpec",
    "PlacementStatus",
    "PodReport",
    "PodStatus",
    "PolicySpec",
    "RegionEntry",
    "Requirement",
    "Rollout",
    "RolloutState",
    "RolloutStatus",
    "Rule",
    "RuleReport",
    "RuleStatus",
    "TierBytes",
    "TierNodes",
    "TierSpec",
    "Truncated",
    "title_of",
]
