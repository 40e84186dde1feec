# SPDX-License-Identifier: Apache-2.0
"""Objects with a few things changed at random, and a quick way to have them looked at."""

from __future__ import annotations

import copy
import http.client
import json
import random
import ssl
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from memplace_lab.product.apiserver import ADMIN, ApiServer

from tests.crd.manifests import BASE, PLACEMENTS, TIERS

Json = dict[str, Any]
Place = tuple[Any, Any]  # a dict or a list, and a key or an index of it

STATUS_PATHS = {
    "MemoryTier": f"{TIERS}/stored/status",
    "MemoryPlacement": f"{PLACEMENTS}/stored/status",
    "NodeMemory": f"{BASE}/nodememories/worker-1/status",
}
SPEC_PATHS = {
    "MemoryPlacement": PLACEMENTS,
    "MemoryTier": TIERS,
    "NodeMemory": f"{BASE}/nodememories",
}
WORDS = (
    *("", "a", "A", "-", "a-b", "a.b", "a/b", "a_b", "/a", "a/", "*", "/*", "ä", "\U0001f9e0"),
    *("a" * 63, "a" * 64, "a" * 253, "a" * 254, "a" * 317, "/" + "a" * 1023, "/" + "a" * 1024),
    *("/*" * 8, "/*" * 9, "\x00", "a\n", "\n", " a", "[", "[!a", "\\", "true", "null", "0"),
    *("1", "1Ki", "1.5Gi", "1m", "-1", "1e3", "0x10", "1023Pi", "1024Pi", "9" * 32, "1Ti", "2Ti"),
    *("rw-", "r-x", "rwx", "Heap", "File", "Shared", "Anonymous", "Bind", "Local", "Preferred"),
    *("Move", "Leave", "In", "Exists", "Fail", "DryRun", "Retired", "True", "dram", "cxl", "other"),
    *("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456Z", "2026-01-01", "9999-99-99T00:00:00Z"),
)
NUMBERS = (0, 1, -1, 7, 63, 1000, 1001, -1000, 1023, 1024, 2**31, 2**53 + 1, 2**63 - 1, 2**63)
ODD: tuple[Any, ...] = (
    1.5,
    -0.25,
    1e300,
    True,
    False,
    [],
    {},
    [[]],
    [{}],
    {"a": 1},
    ["a", "a"],
    [1, 1],
    {"": ""},
)
KEYS = ("nonsense", "name", "Name", "type", "mode", "tiers", "spec", "", "a.b/c", "x" * 64, "-")


class Answer(NamedTuple):
    """What the API server said."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        return self.status < 300


class Talker:
    """One connection to the API server, kept open; for one thread."""

    def __init__(self, api: ApiServer) -> None:
        url = urlsplit(api.url)
        context = ssl.create_default_context(cafile=str(api.ca))
        self._connection = http.client.HTTPSConnection(
            url.hostname or "", url.port, context=context, timeout=60
        )

    def look_at(self, kind: str, obj: Json) -> Answer:
        """Have an object looked at; nothing is kept."""
        if "status" in obj:
            return self.send("PATCH", STATUS_PATHS[kind], {"status": obj["status"]})
        return self.send("POST", SPEC_PATHS[kind], obj)

    def send(self, method: str, path: str, body: Any) -> Answer:
        """Make one request."""
        form = "merge-patch+json" if method == "PATCH" else "json"
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": f"application/{form}"}
        strict = f"{path}?dryRun=All&fieldValidation=Strict"
        try:
            self._connection.request(method, strict, json.dumps(body), headers)
            response = self._connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):
            # It may close a connection between two requests.
            self._connection.close()
            self._connection.request(method, strict, json.dumps(body), headers)
            response = self._connection.getresponse()
        return Answer(response.status, json.loads(response.read()))


def fuzzed(rights: list[Json], dice: random.Random) -> Json:
    """Return one of these objects with up to four changes below spec or status."""
    obj = copy.deepcopy(dice.choice(rights))
    root = "status" if "status" in obj else "spec"
    for _ in range(dice.choice((1, 1, 1, 2, 3, 4))):
        if root not in obj:
            break
        places = [(obj, root), *_places(obj[root])]
        where = dice.choice(places)
        # The whole of it is gone too often otherwise.
        if where[1] == root and where[0] is obj and dice.random() < 0.9:
            continue
        _change(where, places, dice)
    return obj


def _places(value: Any) -> list[Place]:
    found: list[Place] = []
    if not isinstance(value, dict | list):
        return found
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((value, key))
        found += _places(child)
    return found


def _change(where: Place, places: list[Place], dice: random.Random) -> None:
    holder, key = where
    old = holder[key]
    how = dice.randrange(8)
    if how == 0 and isinstance(holder, dict) and len(holder) > 1 and key != "status":
        del holder[key]
    elif how == 1 and isinstance(holder, list) and len(holder) < 100:
        holder[:] = holder * dice.choice((2, 3, 20))
    elif how == 2 and isinstance(old, dict):
        old[dice.choice(KEYS)] = _value(dice)
    elif how == 3:
        other, its = dice.choice(places)
        holder[key] = copy.deepcopy(other[its])
    elif how == 4 and isinstance(old, list):
        old.append(_value(dice))
    else:
        holder[key] = _like(old, dice) if dice.random() < 0.7 else _value(dice)


def _like(old: Any, dice: random.Random) -> Any:
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return dice.choice(NUMBERS)
    if isinstance(old, str):
        return dice.choice(WORDS)
    return copy.deepcopy(dice.choice(ODD))


def _value(dice: random.Random) -> Any:
    return copy.deepcopy(dice.choice(dice.choice((WORDS, NUMBERS, ODD))))


def torn(text: bytes, dice: random.Random) -> bytes:
    """Return JSON with some bytes lost, doubled or changed."""
    found = bytearray(text)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(found))
        how = dice.randrange(4)
        if how == 0:
            del found[at:]
            found = found or bytearray(b"{")
        elif how == 1:
            found[at] = dice.randrange(256)
        elif how == 2:
            found[at:at] = dice.choice((b"{", b"]", b'"', b"\\u00", b"1e999", b"\xff\xfe", b"null"))
        else:
            found[at:at] = found[at : at + 40]
    return bytes(found)
