# SPDX-License-Identifier: Apache-2.0
"""Manifests that are planned, and a way to have that done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from tests.cli.site import Memplace, Ran, Site


def manifest(name: str = "values", *, tier: str = "cxl", **spec: Any) -> dict[str, Any]:
    rule = {
        "name": "heap",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "PreferredMany", "tiers": [tier]},
    }
    body = {"selector": {"matchLabels": {"app": "redis"}}, "rules": [rule]}
    return {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "MemoryPlacement",
        "metadata": {"name": name},
        "spec": body | spec,
    }


def of_cluster(name: str, namespaces: Any, **spec: Any) -> dict[str, Any]:
    found = manifest(name, **{"namespaceSelector": namespaces, "selector": {}} | spec)
    return found | {"kind": "ClusterMemoryPlacement"}


def memory_tier(name: str, *numa: int, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "MemoryTier",
        "metadata": {"name": name},
        "spec": {"numaNodes": list(numa)} | spec,
    }


class Planner:
    def __init__(self, memplace: Memplace, site: Site, folder: Path) -> None:
        self._memplace, self._site, self._file = memplace, site, folder / "manifest.yaml"

    def __call__(self, *documents: Any, user: str = "admin", options: tuple[str, ...] = ()) -> Ran:
        text = yaml.safe_dump_all(documents)
        return self.of_text(text, user=user, options=options)

    def of_text(self, text: str, *, user: str = "admin", options: tuple[str, ...] = ()) -> Ran:
        self._file.write_text(text)
        file, namespace = str(self._file), self._site.namespace
        return self._memplace("plan", "-f", file, "-n", namespace, *options, user=user)

    def placement(self, *documents: Any) -> tuple[int, Any]:
        """Return the exit status and the first placement of the JSON."""
        ran = self(*documents, options=("-o", "json"))
        return ran.code, ran.json()["placements"][0]


def only(found: Any) -> Any:
    (pod,) = found["pods"]
    (container,) = pod["containers"]
    return container
