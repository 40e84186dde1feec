# SPDX-License-Identifier: Apache-2.0
"""Plan: what applying manifests would do, asked of the API server before it is done.

Three ask whether a manifest is right: the core's parser, the core's sentences about rules that
can never win, and the API server itself, in a dry run of the request that apply would make. Who
may not write is told that the last one was left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from memplace.api.checks import tier_errors
from memplace.api.convert import from_builtins
from memplace.api.objects import parse_cluster_placement, parse_placement, parse_tier
from memplace.api.paths import Plural, path_of
from memplace.api.v1alpha1 import ClusterPlacementSpec, PlacementSpec, TierSpec
from memplace.errors import ValidationError
from memplace.validation import problems

from memplace_cli.errors import Refused
from memplace_cli.fetch import Reader
from memplace_cli.manifests import TIER, Manifest
from memplace_cli.merging import applied, changes, kept, merge_patch
from memplace_cli.naming import CLUSTER_KIND, OWN_KIND
from memplace_cli.planned import Plan, PlanFacts, Refusal, Wanted
from memplace_cli.planning import plan_placements
from memplace_cli.planning_tiers import plan_tiers, tiers_after
from memplace_cli.surveying import Asked, survey

_Json = Mapping[str, Any]
_PLURALS = {
    OWN_KIND: Plural.PLACEMENTS,
    CLUSTER_KIND: Plural.CLUSTER_PLACEMENTS,
    TIER: Plural.TIERS,
}


def preview(manifests: Sequence[Manifest], reader: Reader) -> Plan:
    """Return what applying manifests would do; nothing is changed.

    Raises:
        Refused: Objects of their namespaces may not be read.
    """
    left_out: list[str] = []
    moment = datetime.now(UTC).replace(microsecond=0)
    ours = [each for each in manifests if each.is_ours]
    wanted = [_wanted(each, reader, moment, left_out) for each in ours]
    good = [each for each in wanted if not each.problems]
    asked = Asked(
        placements=tuple(each.placement for each in good if each.placement),
        tiers=tuple(each.tier for each in good if each.tier),
    )
    found = survey(reader, asked) if good else PlanFacts()
    tiers = tiers_after(good, found)
    return Plan(
        refused=tuple(_refusal(each) for each in wanted if each.problems),
        tiers=plan_tiers(good, found),
        placements=plan_placements(good, found, tiers),
        ignored=tuple(
            f"{each.where}: {each.kind or 'no kind'} {each.name}".rstrip()
            for each in manifests
            if not each.is_ours
        ),
        left_out=tuple(dict.fromkeys((*found.facts.left_out, *left_out))),
    )


def _refusal(wanted: Wanted) -> Refusal:
    about = "/".join(filter(None, (wanted.namespace, wanted.name)))
    title = f"{wanted.kind or 'no kind'} {about or '(no name)'}"
    return Refusal(where=wanted.where, about=title, problems=wanted.problems)


def _wanted(manifest: Manifest, reader: Reader, moment: datetime, left_out: list[str]) -> Wanted:
    first = Wanted(
        where=manifest.where,
        kind=manifest.kind,
        namespace=manifest.namespace,
        name=manifest.name,
        problems=manifest.problems,
    )
    if first.problems:
        return first
    live = _live(manifest, reader, left_out)
    before = (live or {}).get("spec") or {}
    spec = manifest.obj.get("spec")
    if not isinstance(spec, dict):
        return replace(first, problems=(f"spec: expected an object, got {_what(spec)}",))
    spec = applied(live, manifest.obj) if live else dict(spec)
    parsed = replace(
        first,
        live=live,
        spec=spec,
        kept=kept(live, manifest.obj) if live else (),
        changes=changes(before, spec) if live else (),
    )
    parsed = _parsed(parsed, moment)
    if parsed.problems:
        # The API server would say the same of them, and stop at the first.
        return parsed
    refused = _dry_run(parsed, manifest, reader, left_out)
    return replace(parsed, problems=(refused,) if refused else ())


def _what(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _path(manifest: Manifest) -> str:
    return path_of(_PLURALS[manifest.kind], namespace=manifest.namespace)


def _live(manifest: Manifest, reader: Reader, left_out: list[str]) -> dict[str, Any] | None:
    try:
        return reader.cluster.get(f"{_path(manifest)}/{manifest.name}")
    except Refused as err:
        if err.code == 404:
            return None
        if err.code != 403 or manifest.namespace:
            raise
        # A tenant's file may have what is of the cluster, too.
        about = f"{manifest.kind} {manifest.name}"
        left_out.append(f"{about} as it is there; it is planned as a new one: {err.said}")
        return None


def _parsed(wanted: Wanted, moment: datetime) -> Wanted:
    meta = (wanted.live or {}).get("metadata") or {
        "name": wanted.name,
        "namespace": wanted.namespace,
        "uid": f"new/{wanted.namespace}/{wanted.name}",
        "generation": 1,
        "creationTimestamp": moment,
    }
    obj = {"metadata": meta, "spec": wanted.spec}
    try:
        # All that is wrong at once, where the parsers of whole objects stop at the first.
        if wanted.kind == TIER:
            said = _spelt(tier_errors(wanted.name, from_builtins(wanted.spec, TierSpec, "spec")))
            tier = None if said else parse_tier(obj)
            return replace(wanted, tier=tier, problems=said)
        is_cluster = wanted.kind == CLUSTER_KIND
        struct = ClusterPlacementSpec if is_cluster else PlacementSpec
        said = problems(from_builtins(wanted.spec, struct, "spec"))
        parse = parse_cluster_placement if is_cluster else parse_placement
        placement = None if said else parse(obj)
        return replace(wanted, placement=placement, problems=said)
    except ValidationError as err:
        return replace(wanted, problems=(str(err),))


def _spelt(findings: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{field}: {problem}" for field, problem in findings)


def _dry_run(wanted: Wanted, manifest: Manifest, reader: Reader, left_out: list[str]) -> str:
    path, before = _path(manifest), (wanted.live or {}).get("spec") or {}
    try:
        if wanted.live is None:
            reader.cluster.try_create(path, dict(manifest.obj))
        else:
            change = {"spec": merge_patch(before, wanted.spec)}
            reader.cluster.try_patch(f"{path}/{wanted.name}", change)
    except Refused as err:
        if not _is_want_of_rights(err):
            return f"the API server would refuse it: {err.said}"
        left_out.append(f"the API server's own checks, such as admission: {err.said}")
    return ""


def _is_want_of_rights(err: Refused) -> bool:
    # Admission refuses with 403, too, and with words of its own.
    return err.code == 403 and 'User "' in err.said and " cannot " in err.said
