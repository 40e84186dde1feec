# SPDX-License-Identifier: Apache-2.0
"""ClusterMemoryPlacement's definition, made of MemoryPlacement's: only the differences are here.

python tests/crd/cluster.py    # writes both copies
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "crds" / "memoryplacements.yaml"
COPIES = tuple(
    ROOT / folder / "clustermemoryplacements.yaml"
    for folder in ("crds", "charts/memplace/files/crds")
)

_WIDTH = 120

_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# ClusterMemoryPlacement is a MemoryPlacement for many namespaces.
# Made by tests/crd/cluster.py of memoryplacements.yaml: change that one, and run it.
"""
_ABOUT = """
ClusterMemoryPlacement is a MemoryPlacement for the pods of many namespaces: a default of the
cluster, which gives way to what a namespace says itself, or enforced. It is for admins of the
cluster. Pods are neither restarted nor changed. When it is deleted, the former policy of the
regions is restored.
"""
_NAMESPACES = """
namespaceSelector selects namespaces by their labels; {} selects all of them, kube-system included.
Every namespace has its own name as the label kubernetes.io/metadata.name. A change of a namespace's
labels acts on running pods.
"""
_PODS = """
selector selects pods of these namespaces by their labels; {} selects all of them. A container that
a MemoryPlacement also selects follows that one, and this is no conflict: this one is the default.
See enforced.
"""
_ENFORCED = """
enforced gives this placement precedence over every MemoryPlacement: one that selects the same
container reports Conflict. With false it gives way to them, and acts where a namespace has none of
its own. In mode DryRun it gives way to all that act, enforced or not. Default: false.
"""
_PRIORITY = """
priority decides between ClusterMemoryPlacements that select the same container, those that are
enforced among themselves and the others among themselves: the highest wins,
"""
_POD_NAMESPACE = """\
                    namespace:
                      type: string
                      description: namespace is the pod's namespace.
                      maxLength: 63
"""


def cluster_definition(text: str) -> str:
    """Return the text of ClusterMemoryPlacement's definition.

    Args:
        text: That of MemoryPlacement's.

    Raises:
        ValueError: It lacks something that is to be changed.
    """
    text = text[text.index("apiVersion:") :]
    text = re.sub(r"\b(?<!k8s\.)memoryplacement", "clustermemoryplacement", text)
    text = re.sub(r"\bMemoryPlacement(?=List$|$|\.$)", "ClusterMemoryPlacement", text, flags=re.M)
    for old, new in (
        ("  scope: Namespaced\n", "  scope: Cluster\n"),
        ("shortNames: [mp]", "shortNames: [cmp]"),
        ("required: [selector, rules]", "required: [namespaceSelector, selector, rules]"),
        ("pods of this namespace, otherwise", "pods of one namespace, otherwise"),
    ):
        text = _once(text, old, new)
    text = _described(text, "\n        type: object\n", _ABOUT)
    text = _with_namespace_selector(text)
    priority = "              priority:\n"
    text = _once(text, priority, _enforced() + priority)
    first = re.compile(r"                  priority decides[^:]*:[^\n]*\n")
    if not first.search(text):
        raise ValueError("priority has another description")
    text = first.sub(_folded(_PRIORITY, 18), text, count=1)
    return _HEAD + _with_namespaces_of_pods(text)


def _enforced() -> str:
    head = (
        "              enforced:\n                type: boolean\n                description: >-\n"
    )
    return head + _folded(_ENFORCED, 18)


def _with_namespace_selector(text: str) -> str:
    start = text.index("              selector:\n")
    following = re.compile(r"^              \S", re.MULTILINE).search(text, start + 1)
    if following is None:
        raise ValueError("nothing follows the selector")
    end = following.start()
    selector = text[start:end]
    namespaces = selector.replace("selector:", "namespaceSelector:", 1)
    namespaces = namespaces.replace("the pod must", "the namespace must")
    namespaces = namespaces.replace("pods without the label", "namespaces without the label")
    namespaces = _described(namespaces, "type: object\n", _NAMESPACES)
    pods = _described(_aliased(selector), "type: object\n", _PODS)
    return text[:start] + namespaces + pods + text[end:]


def _aliased(text: str) -> str:
    """Name the anchors that another text has defined by now, instead of what they stand for."""
    validations = r"^( *)x-kubernetes-validations: &(\w+)\n(?:\1(?:- |  ).*\n)+"
    return re.sub(validations, r"\1x-kubernetes-validations: *\2\n", text, flags=re.MULTILINE)


def _with_namespaces_of_pods(text: str) -> str:
    start = text.index("              pods:\n")
    head, rest = text[:start], text[start:]
    rest = _once(rest, "map-keys: [name]\n", "map-keys: [namespace, name]\n")
    rest = _once(rest, "required: [name]\n", "required: [namespace, name]\n")
    name = "                    name:\n"
    return head + _once(rest, name, _POD_NAMESPACE + name)


def _described(text: str, after: str, about: str) -> str:
    """Replace the folded description that follows the first `after`."""
    start = text.index("description: >-\n", text.index(after)) + len("description: >-\n")
    lines = text[start:].splitlines(keepends=True)
    width = len(lines[0]) - len(lines[0].lstrip(" "))
    count = next(i for i, line in enumerate(lines) if not line.startswith(" " * width))
    return text[:start] + _folded(about, width) + "".join(lines[count:])


def _folded(text: str, indent: int) -> str:
    whole = " ".join(text.split())
    return textwrap.indent(textwrap.fill(whole, _WIDTH - indent), " " * indent) + "\n"


def _once(text: str, old: str, new: str) -> str:
    if old not in text:
        raise ValueError(f"not there: {old!r}")
    return text.replace(old, new, 1)


if __name__ == "__main__":
    for path in COPIES:
        path.write_text(cluster_definition(SOURCE.read_text()))
