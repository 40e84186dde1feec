# SPDX-License-Identifier: Apache-2.0
"""Of which namespaces the placements are known, and who may tell of them.

Each namespace has a watch of its own, or there is one of all; any may still say something when
nobody needs it any more. So whoever tells shows a token; the one that was given out last for a
namespace is good.
"""

from __future__ import annotations

from collections.abc import Iterable


class Token:
    """The right to tell of one namespace; for None of all."""

    def __init__(self, namespace: str | None) -> None:
        self.namespace = namespace


class Scope:
    """See the module; its owner has a lock."""

    def __init__(self) -> None:
        self._tokens: dict[str | None, Token] = {}
        self._listed: set[str] = set()
        self._has_all = False

    @property
    def namespaces(self) -> frozenset[str] | None:
        """Those whose placements are all known; None for those of the whole cluster."""
        return None if self._has_all else frozenset(self._listed)

    def knows(self, namespace: str) -> bool:
        """Return whether the placements of a namespace are all known."""
        return self._has_all or namespace in self._listed

    def knows_all(self, namespaces: Iterable[str]) -> bool:
        """Return whether this holds for each of some."""
        return all(map(self.knows, namespaces))

    def begin(self, namespace: str | None) -> Token:
        """Return what who tells of a namespace, or of all, from now on has to show."""
        token = self._tokens[namespace] = Token(namespace)
        return token

    def is_good(self, token: Token) -> bool:
        """Return whether who shows a token may still tell."""
        is_last = self._tokens.get(token.namespace) is token
        return is_last and not (self._has_all and token.namespace is not None)

    def listed(self, token: Token | None) -> bool:
        """Take that a namespace, or for None the cluster, was listed; returns whether it is new."""
        if token is None or token.namespace is None:
            was, self._has_all = self._has_all, True
            return not was
        is_new = token.namespace not in self._listed
        self._listed.add(token.namespace)
        return is_new

    def end(self, token: Token) -> bool:
        """Take that nobody is to tell of a namespace any more; returns whether somebody could."""
        if token.namespace is None or not self.is_good(token):
            return False
        del self._tokens[token.namespace]
        self._listed.discard(token.namespace)
        return True

    def split(self, namespaces: Iterable[str]) -> dict[str, Token] | None:
        """Take that nobody is to tell of all namespaces any more.

        Args:
            namespaces: Of which somebody else tells from now on. What is known of them by now
                is known further on: a watch that begins is no more behind than one that goes on.

        Returns:
            What those have to show, by namespace; None if all were not known.
        """
        self._tokens.pop(None, None)
        if not self._has_all:
            return None
        self._has_all, self._listed = False, set(namespaces)
        found = {namespace: Token(namespace) for namespace in self._listed}
        self._tokens.clear()
        self._tokens.update(found)
        return found
