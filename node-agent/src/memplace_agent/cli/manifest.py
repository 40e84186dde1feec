# SPDX-License-Identifier: Apache-2.0
"""Read MemoryPlacements and MemoryTiers from a YAML file, with errors that name file and line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from memplace.api.objects import parse_cluster_placement, parse_placement, parse_tier
from memplace.api.v1alpha1 import API_VERSION, MemoryTier, Placement
from memplace.errors import ValidationError
from memplace.validation import problems

from memplace_agent.cli.errors import CommandFailed, Exit

# Nobody writes longer ones, and a few lines with aliases can stand for gigabytes.
_MOST_BYTES = 1 << 20
_MOST_VALUES = 100_000

_KINDS = ("ClusterMemoryPlacement", "MemoryPlacement", "MemoryTier")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]")
# What the API server adds when it stores an object, and parsers ask for.
_STORED = {"uid": "", "generation": 1, "creationTimestamp": "1970-01-01T00:00:00Z"}


@dataclass(slots=True)
class Manifest:
    """What a file has.

    Attributes:
        placements: Its placements of both kinds, in order.
        tiers: Its MemoryTiers.
        warnings: What is odd about it, each with file and line.
    """

    placements: list[Placement] = field(default_factory=list)
    tiers: list[MemoryTier] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_manifest(name: str) -> Manifest:
    """Read a file, or standard input for ``-``.

    Raises:
        CommandFailed: It can't be read, is no YAML, or an object in it makes no sense.
    """
    text, name = _text(name)
    manifest = Manifest()
    try:
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            document = _Document(name, node) if node is not None else None
            if document is not None and document.value is not None:
                _add(manifest, document)
    except yaml.YAMLError as err:
        raise _failed(_where(name, err), f"not YAML: {_problem(err)}") from err
    except RecursionError as err:
        raise _failed(name, "it is nested too deeply") from err
    return manifest


def _text(name: str) -> tuple[str, str]:
    try:
        if name == "-":
            data, name = sys.stdin.buffer.read(_MOST_BYTES + 1), "<stdin>"
        else:
            with Path(name).open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except OSError as err:
        raise _failed(name, (err.strerror or str(err)).lower()) from err
    if len(data) > _MOST_BYTES:
        raise _failed(name, "it is larger than 1 MiB: give a file with the placement alone")
    try:
        return data.decode(), name
    except UnicodeDecodeError as err:
        line = data[: err.start].count(b"\n") + 1
        raise _failed(f"{name}:{line}", "not UTF-8") from err


def _add(manifest: Manifest, document: _Document) -> None:
    obj = document.value
    if not isinstance(obj, dict):
        raise document.failed("", "not an object: write apiVersion, kind, metadata and spec")
    kind, version = obj.get("kind"), obj.get("apiVersion")
    if kind not in _KINDS:
        manifest.warnings.append(f"{document.where('kind')}: kind {kind!r} is skipped")
        return
    if version != API_VERSION:
        raise document.failed("apiVersion", f"write {API_VERSION}, not {version!r}")
    try:
        if kind == "MemoryTier":
            manifest.tiers.append(parse_tier(document.stored("")))
            return
        if kind == "ClusterMemoryPlacement":
            placement = parse_cluster_placement(document.stored(""))
        else:
            placement = parse_placement(document.stored("default"))
    except ValidationError as err:
        raise document.failed(err.field, err.problem) from err
    manifest.placements.append(placement)
    manifest.warnings += [document.said(problem) for problem in problems(placement.spec)]


class _Document:
    # One document: its value, and where each part of it is written.

    def __init__(self, name: str, node: yaml.Node) -> None:
        self.name = name
        self._lines: dict[str, int] = {}
        self._loader = yaml.SafeLoader("")
        self._count = 0
        self.value = self._build(node, "")

    def _build(self, node: yaml.Node, path: str) -> Any:
        self._lines[path] = node.start_mark.line + 1
        self._count += 1
        if self._count > _MOST_VALUES:
            raise self.failed("", f"it stands for more than {_MOST_VALUES:,} values")
        if isinstance(node, yaml.SequenceNode):
            return [self._build(each, f"{path}[{at}]") for at, each in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, path))
        try:
            # ISO dates are texts to the API server.
            return (
                node.value
                if node.tag == "tag:yaml.org,2002:timestamp"
                else self._loader.construct_object(node, deep=True)
            )
        except (yaml.YAMLError, ValueError) as err:
            raise self.failed(path, f"not a value: {node.value!r}") from err

    def _items(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = key_node.value
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise _failed(f"{self.name}:{line}", "a key has to be a word")
            below = f"{path}.{key}" if path else key
            if key in seen:
                raise _failed(f"{self.name}:{line}", f"{below} is written twice: remove one")
            seen.add(key)
            value = self._build(value_node, below)
            self._lines[below] = line
            yield key, value

    def stored(self, namespace: str) -> dict[str, Any]:
        """Return the object as the API server would have it, as far as parsers need that."""
        metadata = self.value.get("metadata") or {}
        if not isinstance(metadata, dict) or not metadata.get("name"):
            raise self.failed("metadata", "metadata.name is missing")
        known = {k: metadata[k] for k in ("name", "namespace") if metadata.get(k)}
        defaults = {"namespace": namespace} if namespace else {}
        return {**self.value, "metadata": {**_STORED, **defaults, **known}}

    def where(self, path: str) -> str:
        """Return file and line of a part, or of the nearest one around it."""
        steps = [name or f"[{index}]" for name, index in _STEP.findall(path)]
        while steps:
            around = "".join(s if s.startswith("[") else f".{s}" for s in steps).lstrip(".")
            if around in self._lines:
                return f"{self.name}:{self._lines[around]}"
            steps.pop()
        return f"{self.name}:{self._lines.get('', 1)}"

    def said(self, sentence: str) -> str:
        """Begin a sentence with a field, with file and line before it."""
        path = sentence.split(": ", 1)[0]
        return f"{self.where(path if ' ' not in path else '')}: {sentence}"

    def failed(self, path: str, problem: str) -> CommandFailed:
        return _failed(self.where(path), f"{path}: {problem}" if path else problem)


def _where(name: str, err: yaml.YAMLError) -> str:
    mark = getattr(err, "problem_mark", None) or getattr(err, "context_mark", None)
    return f"{name}:{mark.line + 1}" if mark else name


def _problem(err: yaml.YAMLError) -> str:
    return getattr(err, "problem", None) or str(err).splitlines()[0]


def _failed(where: str, problem: str) -> CommandFailed:
    return CommandFailed(Exit.USAGE, f"{where}: {problem}")
