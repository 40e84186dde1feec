# SPDX-License-Identifier: Apache-2.0
"""Manifests: the documents of a file, each with what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from memplace.api.v1alpha1 import API_VERSION

from memplace_cli.errors import CommandFailed, Exit
from memplace_cli.naming import CLUSTER_KIND, OWN_KIND

STDIN = "-"
TIER = "MemoryTier"
_KINDS = (OWN_KIND, CLUSTER_KIND, TIER)
# What this command reads at most: a manifest of more is none that an API server takes.
_LARGEST = 3 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object of a manifest.

    Attributes:
        where: Which document of which file.
        kind: MemoryPlacement, ClusterMemoryPlacement or MemoryTier; another kind is none of ours.
        namespace: Where it goes; empty for what is in none.
        name: Its name.
        obj: All of it.
        problems: What is wrong with it beside its spec.
    """

    where: str
    kind: str
    namespace: str
    name: str
    obj: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether it is of a kind that can be planned, or may have been meant so."""
        return self.kind in _KINDS or bool(self.problems)


def read_manifests(files: tuple[str, ...], asked: str, default: str) -> tuple[Manifest, ...]:
    """Return the objects of files, in their order; lists of objects are taken apart.

    Args:
        files: Paths; ``-`` for standard input.
        asked: The namespace that -n names; empty for none.
        default: The namespace of those that name none.

    Raises:
        CommandFailed: A file can't be read, is no YAML, or has no object.
    """
    found = tuple(
        _manifest(obj, where, asked, default)
        for name in files
        for where, obj in _objects(name, _text(name))
    )
    if not any(each.is_ours for each in found):
        listed = ", ".join(_title(name) for name in files)
        raise CommandFailed(
            Exit.USAGE,
            f"{listed} has no {', no '.join(_KINDS[:-1])} and no {TIER} of {API_VERSION}",
        )
    return found


def _title(name: str) -> str:
    return "standard input" if name == STDIN else name


def _text(name: str) -> str:
    try:
        if name == STDIN:
            content = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise CommandFailed(Exit.USAGE, f"{_title(name)} has more than 3 MiB")
        return content.decode()
    except UnicodeDecodeError as err:
        raise CommandFailed(Exit.USAGE, f"{_title(name)} is not UTF-8") from err
    except OSError as err:
        said = err.strerror or type(err).__name__
        raise CommandFailed(Exit.USAGE, f"{_title(name)} can't be read: {said}") from err


def _objects(name: str, text: str) -> Iterator[tuple[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        said = " ".join(str(err).split()) or type(err).__name__
        raise CommandFailed(Exit.USAGE, f"{_title(name)} is no YAML: {said}") from err
    several = len(documents) > 1
    for number, document in enumerate(documents, 1):
        where = f"{_title(name)}, document {number}" if several else _title(name)
        if document is None:
            continue
        items = document.get("items") if isinstance(document, dict) else None
        is_list = isinstance(items, list) and str(document.get("kind")).endswith("List")
        if is_list and isinstance(items, list):
            yield from ((f"{where}, item {at}", item) for at, item in enumerate(items, 1))
        else:
            yield where, document


def _manifest(obj: Any, where: str, asked: str, default: str) -> Manifest:
    if not isinstance(obj, dict):
        problem = f"a document is an object with apiVersion and kind, not {type(obj).__name__}"
        return Manifest(where, "", "", "", problems=(problem,))
    meta = obj.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    kind, version = str(obj.get("kind") or ""), str(obj.get("apiVersion") or "")
    name, own = str(meta.get("name") or ""), str(meta.get("namespace") or "")
    group = API_VERSION.partition("/")[0]
    if kind not in _KINDS and version.partition("/")[0] != group:
        return Manifest(where, kind, own, name, obj)
    problems = tuple(_problems(kind, version, name, own, asked))
    namespace = "" if kind in (TIER, CLUSTER_KIND) else own or asked or default
    return Manifest(where, kind, namespace, name, obj, problems)


def _problems(kind: str, version: str, name: str, own: str, asked: str) -> Iterator[str]:
    if kind not in _KINDS:
        yield f"kind: {kind or 'none'} can't be planned: write {', '.join(_KINDS[:-1])} or {TIER}"
    if version != API_VERSION:
        yield f"apiVersion: write {API_VERSION}, not {version or 'nothing'}"
    if not name:
        yield "metadata.name: apply needs a name"
    if kind == OWN_KIND and own and asked and own != asked:
        yield f"metadata.namespace: it is {own}, and -n says {asked}"
