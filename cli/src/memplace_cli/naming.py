# SPDX-License-Identifier: Apache-2.0
"""A placement as people type it: ``NAME``, ``NAMESPACE/NAME``, or a kind and a name. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from memplace.api.paths import placement_path
from memplace.api.v1alpha1 import GROUP, title_of

OWN_KIND, CLUSTER_KIND = "MemoryPlacement", "ClusterMemoryPlacement"


def _words(short: str, kind: str) -> tuple[str, ...]:
    singular = kind.lower()
    names = (singular, f"{singular}s")
    return (short, *names, *(f"{name}.{GROUP}" for name in names))


# What kubectl takes for the kinds, the shortest first.
OWN_WORDS = _words("mp", OWN_KIND)
CLUSTER_WORDS = _words("cmp", CLUSTER_KIND)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementName:
    """Which placement is meant.

    Attributes:
        name: Its name.
        namespace: Of a MemoryPlacement; empty where -n or the context says it.
        is_cluster: Whether it is a ClusterMemoryPlacement.
    """

    name: str
    namespace: str = ""
    is_cluster: bool = False

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return placement_path("" if self.is_cluster else self.namespace, self.name)

    @property
    def typed(self) -> str:
        """What names it on a command line, whatever -n says."""
        return f"cmp/{self.name}" if self.is_cluster else f"{self.namespace}/{self.name}"

    @property
    def title(self) -> str:
        """What to call it, for people."""
        return title_of("" if self.is_cluster else self.namespace, self.name)


def read_name(text: str) -> PlacementName:
    """Return which placement a text means.

    Raises:
        ValueError: It names none; the message says what to write.
    """
    first, slash, rest = text.partition("/")
    word = first.lower()
    if slash and word in CLUSTER_WORDS:
        if "/" in rest:
            raise ValueError(f"a {CLUSTER_KIND} is in no namespace: write cmp/NAME, not {text!r}")
        found = PlacementName(name=rest, is_cluster=True)
    else:
        bare = rest if slash and word in OWN_WORDS else text
        namespace, slash, name = bare.rpartition("/")
        found = PlacementName(name=name, namespace=namespace)
        if "/" in namespace or (slash and not namespace):
            found = PlacementName(name="")
    if not found.name:
        raise ValueError(
            f"write NAME or NAMESPACE/NAME, or cmp/NAME for a {CLUSTER_KIND}, not {text!r}"
        )
    return found
