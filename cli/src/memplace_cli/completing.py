# SPDX-License-Identifier: Apache-2.0
"""What may stand at the end of a command line that is being typed.

In the form in which kubectl asks the programs `kubectl_complete-NAME` of its plugins: a line for
each word, with a tab and a description if it has one, then a line with a number, 4 for "no file
may stand here" and 0 for "a file may". Names come from the API server; if it is not there, or does
not want to say, there are none, and nobody is told: a person is typing.

Source: k8s.io/kubectl ``pkg/cmd/plugin/plugin_completion.go``, github.com/spf13/cobra
``completions.go``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memplace.api.paths import Plural, path_of

from memplace_cli.naming import CLUSTER_WORDS, OWN_WORDS
from memplace_cli.options import COMMANDS, parser

if TYPE_CHECKING:
    from memplace_cli.cluster import Cluster

_NO_FILE, _FILE = 4, 0
# Options whose value is a file, and what kind of name stands for the rest.
_FILES = frozenset({"files", "kubeconfig", "svg"})
_NAMES = {"namespace": "namespaces", "system": "namespaces", "context": "contexts"}
_POSITIONAL = {"pod": "pods", "placement": "placements"}

Found = tuple[list[str], int]


@dataclass(slots=True)
class _Line:
    # What of the line was understood.
    values: dict[str, str]
    command: str = ""
    words: int = 0  # that stand where no option does, after the command
    pending: argparse.Action | None = None


def complete(words: Sequence[str]) -> Found:
    """Return what the last word may become, and whether a file may stand there.

    Args:
        words: What stands after the name of the program; the last is the one being typed, empty
            for a new one.
    """
    *before, current = words or [""]
    line = _read(before)
    if line.pending is not None:
        return _value(line.pending, line, current)
    if current.startswith("-"):
        return _starting(_options(line.command), current), _NO_FILE
    if not line.command and line.words:
        return [], _NO_FILE
    if not line.command:
        return _starting((f"{n}\t{about}" for n, (about, _) in COMMANDS.items()), current), _NO_FILE
    positional = [each for each in _actions(line.command) if not each.option_strings]
    at = line.words
    if at < len(positional):
        return _value(positional[at], line, current)
    return [], _NO_FILE


def _read(before: Sequence[str]) -> _Line:
    line = _Line({})
    for word in before:
        if line.pending is not None:
            line.values[line.pending.dest] = word
            line.pending = None
        elif word.startswith("-"):
            name, _, value = word.partition("=")
            action = next((a for a in _actions(line.command) if name in a.option_strings), None)
            if action is not None and value:
                line.values[action.dest] = value
            elif action is not None and action.nargs != 0:
                line.pending = action
        elif not line.command and word in COMMANDS:
            line.command = word
        else:
            line.words += 1
    return line


def _actions(command: str) -> list[argparse.Action]:
    whole = parser()
    listed = whole._actions
    subs = next(each for each in listed if isinstance(each, argparse._SubParsersAction))
    if command:
        return list(subs.choices[command]._actions)
    return [each for each in listed if each is not subs]


def _options(command: str) -> Iterator[str]:
    for action in _actions(command):
        for name in action.option_strings:
            yield f"{name}\t{action.help}" if action.help else name


def _starting(words: Iterable[str], current: str) -> list[str]:
    return [word for word in words if word.startswith(current)]


def _value(action: argparse.Action, line: _Line, current: str) -> Found:
    if action.choices is not None:
        return _starting(map(str, action.choices), current), _NO_FILE
    if action.dest in _FILES:
        return [], _FILE
    kind = _NAMES.get(action.dest) or _POSITIONAL.get(action.dest, "")
    if not kind:
        return [], _NO_FILE
    try:
        return _starting(_names(kind, line, current), current), _NO_FILE
    except Exception:
        # Whatever it was: the command itself will say it.
        return [], _NO_FILE


def _names(kind: str, line: _Line, current: str) -> list[str]:
    # The client takes a second to import; most of what is completed needs none.
    from memplace_cli.cluster import connect, context_names

    given = line.values.get
    if kind == "contexts":
        return context_names(given("kubeconfig", ""))
    cluster = connect(
        kubeconfig=given("kubeconfig", ""),
        context=given("context", ""),
        namespace=given("namespace", ""),
        timeout_s=(1, 2),
    )
    if kind == "namespaces":
        return cluster.names("/api/v1/namespaces")
    if kind == "placements":
        return _placements(cluster, current)
    namespace, slash, _ = current.rpartition("/")
    path = f"/api/v1/namespaces/{namespace or cluster.namespace}/pods"
    return [f"{namespace}{slash}{name}" for name in cluster.names(path)]


def _placements(cluster: Cluster, current: str) -> list[str]:
    before, slash, _ = current.rpartition("/")
    of_cluster = path_of(Plural.CLUSTER_PLACEMENTS)
    if before in CLUSTER_WORDS:
        return [f"{before}/{name}" for name in cluster.names(of_cluster)]
    namespace = before
    for word in OWN_WORDS:
        namespace = namespace.removeprefix(f"{word}/") if namespace != word else ""
    path = path_of(Plural.PLACEMENTS, namespace=namespace or cluster.namespace)
    found = _quiet(lambda: [f"{before}{slash}{name}" for name in cluster.names(path)])
    if not slash:
        # The short word, or a longer one for who has begun it.
        word = next((each for each in CLUSTER_WORDS if each.startswith(current)), CLUSTER_WORDS[0])
        found += _quiet(lambda: [f"{word}/{name}" for name in cluster.names(of_cluster)])
    return found


def _quiet(read: Callable[[], list[str]]) -> list[str]:
    # What one may not list takes nothing from the rest.
    try:
        return read()
    except Exception:
        return []


def main(words: Sequence[str]) -> int:
    """Print what the last word may become; returns the exit status, which is always 0."""
    found, directive = complete(words)
    print("\n".join([*found, f":{directive}"]))
    return 0


def entry() -> None:
    """Run the program that kubectl asks."""
    sys.exit(main(sys.argv[1:]))
