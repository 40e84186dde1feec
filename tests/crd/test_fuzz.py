# SPDX-License-Identifier: Apache-2.0
"""Fuzzed objects: refused with a clear error or taken, by the API server and by us alike.

In ``make test-long`` 100,000 of them.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from memplace.api.objects import parse_node_memory, parse_placement, parse_tier
from memplace.api.v1alpha1 import Placement
from memplace.errors import ValidationError
from memplace_operator.feeds import News, reader
from memplace_operator.kinds import Kind
from memplace_operator.objects import read_report

from tests.crd.fuzzing import Answer, Talker, fuzzed, torn
from tests.crd.manifests import Json, stored
from tests.crd.test_broken import right_objects
from tests.support.crds import times
from tests.support.trying import tries

COUNT = tries(2_000, 100_000)
SEED = "memplace"
THREADS = 2
PARSERS: dict[str, Any] = {
    "MemoryPlacement": parse_placement,
    "MemoryTier": parse_tier,
    "NodeMemory": parse_node_memory,
}
READERS = {"MemoryPlacement": reader(Kind.PLACEMENT), "NodeMemory": reader(Kind.NODE)}


def refusal(kind: str, obj: Json) -> ValidationError | None:
    """Return what the core says against an object as the API server would have it."""
    try:
        PARSERS[kind](obj if "uid" in obj["metadata"] else stored(obj))
    except ValidationError as err:
        assert str(err) and err.problem, obj
        return err
    return None


def read(kind: str, raw: bytes) -> None:
    """Have the operator read JSON as it comes in a watch; it may not raise."""
    if kind in READERS:
        news = READERS[kind](raw)
        assert isinstance(news, News)
        for packed in getattr(news.seen, "reports", {}).values():
            read_report(packed)


def judge(kind: str, obj: Json, answer: Answer) -> str:
    """Say how it ended for one object.

    Raises:
        AssertionError: The API server and we do not say the same.
    """
    assert answer.status < 500, answer.body
    if answer.ok:
        found = refusal(kind, answer.body)
        if found is not None and _is_a_list_for_a_time(obj):
            return "known"
        assert found is None, f"only the core refuses: {found}"
        raw = json.dumps(answer.body).encode()
        if kind in READERS:
            seen = READERS[kind](raw).seen
            assert isinstance(seen, Placement) or kind != "MemoryPlacement"
            assert seen is not None
        return "taken"
    assert answer.status in (400, 413, 422), answer.body
    assert str(answer.body["message"]), "a refusal says why"
    if "status" not in obj:
        assert refusal(kind, obj), f"only the API server refuses: {answer.body['message']}"
    return "refused"


def _is_a_list_for_a_time(obj: Json) -> bool:
    """Tell what the API server takes, whatever a schema says; see test_broken."""
    return "status" in obj and any(
        isinstance(value, list) and key in times() for key, value in _items(obj["status"])
    )


def test_what_is_known_of_times_is_known_of_each() -> None:
    """Of 100,000 objects one had a list for status.rollout.since."""
    assert {"heartbeatTime", "since"} <= times()
    for name in times():
        assert _is_a_list_for_a_time({"status": {"a": [{name: [{}]}]}})
        assert not _is_a_list_for_a_time({"status": {name: "2026-01-01T00:00:00Z", "b": []}})


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict | list):
        return
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, dict | list):
            yield from _items(child)
    if isinstance(value, dict):
        yield from value.items()


@pytest.mark.usefixtures("stored_objects")
@pytest.mark.timeout(120 + COUNT // 20)
def test_the_api_server_and_we_say_the_same_of_fuzzed_objects(api: Any) -> None:
    rights = [(kind, [obj for obj, _ in objects]) for kind, objects in right_objects().items()]

    def run(first: int) -> Counter[str]:
        talker, ends = Talker(api), Counter[str]()
        for number in range(first, COUNT, THREADS):
            dice = random.Random(f"{SEED}/{number}")
            kind, objects = dice.choice(rights)
            obj = fuzzed(objects, dice)
            try:
                ends[f"{kind} {judge(kind, obj, talker.look_at(kind, obj))}"] += 1
                raw = json.dumps(obj).encode()
                read(kind, raw)
                read(kind, torn(raw, dice))
            except Exception as err:
                raise AssertionError(f"object {number}: {err!r}\n{json.dumps(obj)}") from err
        return ends

    started = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        ends = sum(pool.map(run, range(THREADS)), Counter[str]())
    rate = ends.total() / (time.monotonic() - started)
    print(f"{ends.total()} objects, {rate:.0f} in a second: {dict(ends)}")
    assert ends.total() == COUNT
    for kind in PARSERS:
        # Of what is always refused nothing is learnt, nor of what is always taken.
        for end in ("taken", "refused"):
            assert ends[f"{kind} {end}"] > COUNT / 50, ends
