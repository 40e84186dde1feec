# SPDX-License-Identifier: Apache-2.0
"""The CRDs' CEL rules once more, in Python and with the same messages.

The API server runs the CEL rules, so a stored object has passed them already. The
agent still reads objects stored under an older CRD, or none at all; acting on
``Bind`` without tiers would be worse than refusing it twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import UNSET

from memplace.api.patterns import DNS_LABEL, LABEL_KEY, NOT_A_LABEL_KEY
from memplace.api.v1alpha1 import (
    EACH_OTHER,
    ClusterPlacementSpec,
    LabelSelector,
    Migration,
    NamespaceLimit,
    Operator,
    PlacementSpec,
    PolicySpec,
    RegionEntry,
    Rollout,
    Rule,
    TierSpec,
)
from memplace.kinds import ExistingPages, Mode, RegionKind
from memplace.quantity import exact_bytes, is_size

Finding = tuple[str, str]  # field, problem

# What matching costs grows with each star, and a tenant writes the pattern.
MAX_STARS = 8
_MAX_NODES, _SHARE = 100_000, r"^([1-9][0-9]?|100)%\Z"
_DRAM, _LEAST_LIMIT = "dram", 1 << 20
_SHARE_OR_NONE = r"^(0|[1-9][0-9]?|100)%\Z"
_MIN_BANDWIDTH, _MAX_BANDWIDTH = 1 << 20, 1 << 40

NO_RULES = (
    "rules is empty: write at least one rule, for example "
    "{name: heap, regions: [{type: Heap}], policy: {mode: PreferredMany, tiers: [cxl]}}"
)
SAME_RULE_NAME = "two rules have the same name: give each rule a name of its own"
NO_CONTAINERS = (
    "containers is empty: leave it out for all containers of the pod, or name at least one"
)
NO_REGIONS = "regions is empty: write at least one entry, for example {type: Heap}"
NEEDS_TIERS = (
    "this mode needs tiers: write for example tiers: [cxl], "
    "or mode Default or Local, which take none"
)
TAKES_NO_TIERS = (
    "modes Default and Local take no tiers: remove tiers, "
    "or write a mode that takes them, for example PreferredMany"
)
ONE_TIER = (
    "mode Preferred takes exactly one tier: keep one, or write mode PreferredMany for several"
)
TIER_TWICE = "a tier is there twice: write each of them once"
NOTHING_TO_MOVE = (
    "modes Default and Local name no tier to move pages to: "
    "remove existingPages, or write existingPages: Leave"
)
NAME_NEEDS_TYPE = (
    "name goes only with type Anonymous or Shared: remove name, or change type; "
    "files are named by path"
)
PATH_NEEDS_TYPE = (
    "path goes only with type File, Shared or HugeTLB: remove path, or change type; "
    "anonymous memory is named by name"
)
PATH_START = "path is compared with the whole path: begin it with / or *, for example */model.bin"
NEVER_EXECUTABLE = (
    "memory of type Heap is never executable, so nothing can match: "
    "change permissions, or write type Anonymous"
)
TOO_MANY_STARS = "a pattern may have at most 8 *: write it with fewer"
BANDWIDTH_BOUNDS = (
    "maxBandwidth is bytes per second: write at least 1Mi and at most 1Ti, for example 200Mi"
)
NODES_OR_SHARE = (
    "maxNodes is a number of nodes, 1 to 100000, or a share of them, 1% to 100%: write for example "
    "maxNodes: 1, or maxNodes: 10%"
)
NOT_A_SIZE = (
    "write a size in bytes, as a number or with a suffix k, M, G, T, P, Ki, Mi, Gi, Ti or Pi, "
    "for example 64Mi; less than 1024Pi"
)
MIN_ABOVE_MAX = "minSize is larger than maxSize, so nothing can match: swap them, or remove one"
VALUES_NEEDED = "operators In and NotIn need values: write for example values: [redis]"
VALUES_FORBIDDEN = "operators Exists and DoesNotExist take no values: remove values, or write In"
NO_NUMA_NODES = "numaNodes is empty: write at least one NUMA node, for example [1]"
NOTHING_SAID = "write numaNodes, which the tier is made of, or namespaceLimits, or both"
NO_LIMITS = (
    "namespaceLimits is empty: leave it out if namespaces may have all of the tier, or write for "
    'example [{namespace: "*", perNode: 25%}]'
)
NOT_A_NAMESPACE = (
    "write the name of a namespace, for example team-a, "
    'or "*" for each that has no entry of its own'
)
NOT_A_LIMIT = (
    "perNode is a share of the tier, 0% to 100%, or a size of at least 1Mi, or 0 for nothing: "
    "write for example 25%, or 64Gi"
)
DRAM_HAS_NO_LIMIT = (
    "namespaces can't have a limit of dram, for it is where memory goes that has no other place: "
    "remove namespaceLimits, and use the memory limits of pods"
)
NO_NODE_NAMES = "nodeNames is empty: leave it out for all nodes, or name at least one"
EMPTY_NODE_SELECTOR = (
    "nodeSelector is empty: leave it out for all nodes, or name at least one label"
)
NAMES_OR_LABELS = "nodeNames and nodeSelector exclude each other: keep one of them"
TIER_NAME = (
    "metadata.name is the tier's name: write a DNS label of at most 63 characters, other than other"
)


def placement_errors(spec: PlacementSpec) -> Iterator[Finding]:
    """Yield what the CRD of a placement refuses beyond types: (field, problem)."""
    if isinstance(spec, ClusterPlacementSpec):
        yield from _selector("spec.namespaceSelector", spec.namespace_selector)
    yield from _selector("spec.selector", spec.selector)
    yield from _label_keys("spec.nodeSelector", spec.node_selector)
    if spec.containers is not UNSET:
        if not spec.containers:
            yield "spec.containers", NO_CONTAINERS
        yield from _duplicates("spec.containers", spec.containers)
    if not spec.rules:
        yield "spec.rules", NO_RULES
    if len({rule.name for rule in spec.rules}) < len(spec.rules):
        yield "spec.rules", SAME_RULE_NAME
    for i, rule in enumerate(spec.rules):
        yield from _rule(f"spec.rules[{i}]", rule)
    if spec.migration is not UNSET:
        yield from _migration("spec.migration.maxBandwidth", spec.migration)
    if spec.rollout is not UNSET:
        yield from _rollout("spec.rollout", spec.rollout)


def tier_errors(name: str, spec: TierSpec) -> Iterator[Finding]:
    """Yield what the CRD of MemoryTier refuses beyond types: (field, problem)."""
    if name == "other" or len(name) > 63 or "." in name:
        yield "metadata.name", TIER_NAME
    if not spec.numa_nodes and spec.namespace_limits is UNSET:
        yield "spec.numaNodes", NO_NUMA_NODES
    yield from _duplicates("spec.numaNodes", spec.numa_nodes)
    if spec.namespace_limits is not UNSET:
        if name == _DRAM:
            yield "spec.namespaceLimits", DRAM_HAS_NO_LIMIT
        yield from _namespace_limits("spec.namespaceLimits", spec.namespace_limits)
    if spec.node_names is not UNSET:
        if not spec.node_names:
            yield "spec.nodeNames", NO_NODE_NAMES
        yield from _duplicates("spec.nodeNames", spec.node_names)
    if spec.node_selector is not UNSET:
        if not spec.node_selector:
            yield "spec.nodeSelector", EMPTY_NODE_SELECTOR
        yield from _label_keys("spec.nodeSelector", spec.node_selector)
        if spec.node_names is not UNSET:
            yield "spec", NAMES_OR_LABELS


def _namespace_limits(field: str, limits: Sequence[NamespaceLimit]) -> Iterator[Finding]:
    if not limits:
        yield field, NO_LIMITS
    yield from _duplicates(field, [each.namespace for each in limits])
    for i, each in enumerate(limits):
        if each.namespace != EACH_OTHER and not re.match(DNS_LABEL, each.namespace):
            yield f"{field}[{i}].namespace", NOT_A_NAMESPACE
        if not _is_limit(str(each.per_node)):
            yield f"{field}[{i}].perNode", NOT_A_LIMIT


def _is_limit(text: str) -> bool:
    if re.match(_SHARE_OR_NONE, text):
        return True
    return is_size(text) and not 0 < exact_bytes(text) < _LEAST_LIMIT


def _selector(field: str, selector: LabelSelector) -> Iterator[Finding]:
    yield from _label_keys(f"{field}.matchLabels", selector.match_labels)
    for i, term in enumerate(selector.match_expressions):
        if term.operator in (Operator.IN, Operator.NOT_IN):
            if not term.values:
                yield f"{field}.matchExpressions[{i}]", VALUES_NEEDED
        elif term.values:
            yield f"{field}.matchExpressions[{i}]", VALUES_FORBIDDEN


def _label_keys(field: str, labels: Iterable[str]) -> Iterator[Finding]:
    if not all(re.match(LABEL_KEY, key) for key in labels):
        yield field, NOT_A_LABEL_KEY


def _rule(field: str, rule: Rule) -> Iterator[Finding]:
    if not rule.regions:
        yield f"{field}.regions", NO_REGIONS
    for key, entries in (("regions", rule.regions), ("exclude", rule.exclude)):
        for i, entry in enumerate(entries):
            yield from _entry(f"{field}.{key}[{i}]", entry)
    yield from _policy(f"{field}.policy", rule.policy)
    if rule.existing_pages is ExistingPages.MOVE and not rule.policy.mode.takes_nodes:
        yield field, NOTHING_TO_MOVE


def _entry(field: str, entry: RegionEntry) -> Iterator[Finding]:
    if entry.name and entry.type not in (RegionKind.ANONYMOUS, RegionKind.SHARED):
        yield field, NAME_NEEDS_TYPE
    if entry.path and entry.type not in (
        RegionKind.FILE,
        RegionKind.SHARED,
        RegionKind.HUGETLB,
    ):
        yield field, PATH_NEEDS_TYPE
    if entry.type is RegionKind.HEAP and entry.permissions.endswith("x"):
        yield field, NEVER_EXECUTABLE
    yield from _patterns(field, entry)
    sizes = dict(_sizes(entry))
    bad = [key for key, size in sizes.items() if not is_size(size)]
    yield from ((f"{field}.{key}", NOT_A_SIZE) for key in bad)
    if (
        len(sizes) == 2
        and not bad
        and exact_bytes(sizes["minSize"]) > exact_bytes(sizes["maxSize"])
    ):
        yield field, MIN_ABOVE_MAX


def _patterns(field: str, entry: RegionEntry) -> Iterator[Finding]:
    if entry.path and entry.path[0] not in "/*?[":
        yield f"{field}.path", PATH_START
    for key in ("name", "path", "process"):
        if getattr(entry, key).count("*") > MAX_STARS:
            yield f"{field}.{key}", TOO_MANY_STARS


def _migration(field: str, migration: Migration) -> Iterator[Finding]:
    text = migration.max_bandwidth
    if text and not is_size(text):
        yield field, NOT_A_SIZE
    elif text and not _MIN_BANDWIDTH <= exact_bytes(text) <= _MAX_BANDWIDTH:
        yield field, BANDWIDTH_BOUNDS


def _rollout(field: str, rollout: Rollout) -> Iterator[Finding]:
    nodes = rollout.max_nodes
    if not (
        1 <= nodes <= _MAX_NODES if isinstance(nodes, int) else re.match(_SHARE, nodes) is not None
    ):
        yield f"{field}.maxNodes", NODES_OR_SHARE
    if rollout.hold_on is not UNSET:
        yield from _duplicates(f"{field}.holdOn", rollout.hold_on)


def _sizes(entry: RegionEntry) -> Iterator[tuple[str, str | int]]:
    if entry.min_size:
        yield "minSize", entry.min_size
    if entry.max_size:
        yield "maxSize", entry.max_size


def _policy(field: str, policy: PolicySpec) -> Iterator[Finding]:
    if policy.mode.takes_nodes and not policy.tiers:
        yield field, NEEDS_TIERS
    if not policy.mode.takes_nodes and policy.tiers:
        yield field, TAKES_NO_TIERS
    if policy.mode is Mode.PREFERRED and len(policy.tiers) > 1:
        yield field, ONE_TIER
    if len(set(policy.tiers)) < len(policy.tiers):
        yield f"{field}.tiers", TIER_TWICE


def _duplicates(field: str, items: Sequence[object]) -> Iterator[Finding]:
    seen: set[object] = set()
    for item in items:
        if item in seen:
            yield field, f"{item} is there twice: remove one"
        seen.add(item)
