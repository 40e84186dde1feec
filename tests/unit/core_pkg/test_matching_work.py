# SPDX-License-Identifier: Apache-2.0
"""What it costs to match what a tenant may write with what a tenant may map."""

import contextlib
import time
from itertools import count

import pytest
from memplace.entries import ProcessName
from memplace.errors import RulesTooCostly
from memplace.globs import Glob
from memplace.matching import Matcher
from memplace.reasons import Reason

from tests.unit.core_pkg.test_matching import MIB, entry, region, rule


def test_a_program_with_many_names_does_not_fill_the_memory():
    # Each of twelve patterns means other names, so names are of up to 4,096 sorts.
    matcher = Matcher([rule("r", *(entry(name=f"*{letter}*") for letter in "abcdefghijkl"))])
    for i in range(3):
        names = [
            "".join(c for b, c in enumerate("abcdefghijkl") if n >> b & 1) for n in range(1, 4096)
        ]
        many = [region(start=n << 20, name=f"{i}-{name}") for n, name in enumerate(names)]
        assert all(match.rule for match in matcher.match(many))
        assert 0 < len(matcher._sorts) <= 1024


def many_rules(kind, key, pattern, **keys):
    """Return sixteen rules, as many as there may be, of all different entries."""
    numbers = count()

    def sixteen():
        return [entry(kind, **{key: pattern(next(numbers))}, **keys) for _ in range(16)]

    return [rule(f"r{n}", *sixteen(), exclude=sixteen()) for n in range(16)]


def path(number):
    return "/" + ("a" * 29 + "b") * 133 + f"{number:05}"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (lambda n: "/" + (("*" + "[!b]" * 30) * 8)[:1000] + f"b{n}", path),
        (lambda n: "/" + (("*" + "[!b]" * 30) * 8)[:1000] + f"b*{n}", path),
        (lambda n: f"/*x{n}", path),
        (lambda n: f"/*x{n}*", path),
        (lambda n: f"/x{n}*", path),
        (lambda n: "/*" + "?a" * 500 + f"b{n}*", lambda n: "/" + "a" * 4000 + f"{n}"),
        (lambda n: "/*" + "a" * 1000 + f"b{n}*", lambda n: "/" + "a" * 4000 + f"{n}"),
    ],
)
def test_the_paths_of_a_tenant_cost_little_or_are_refused(pattern, text):
    matcher = Matcher(many_rules("File", "path", pattern))
    regions = [region("File", start=n << 20, path=text(n)) for n in range(2000)]
    assert_quick(matcher, regions)


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        (lambda n: f"*{n:03}*", {}),
        (lambda n: "*" * (n % 8 + 1) + "?" * (n // 8), {"min_size": "1Ki"}),
        (lambda n: f"*{n % 10}*", {"min_size": "1Gi"}),
    ],
)
def test_so_do_names_and_sizes(pattern, keys):
    matcher = Matcher(many_rules("Anonymous", "name", pattern, **keys))
    names = [f"{n * 7919 % 512:03} {n * 104729 % 509:03} {n % 503:03}" for n in range(20_000)]
    assert_quick(matcher, [region(start=n * MIB, name=name) for n, name in enumerate(names)])


def assert_quick(matcher, regions):
    # What it costs, it costs each time that a process is looked at.
    for _ in range(2):
        began = time.thread_time()
        with contextlib.suppress(RulesTooCostly):
            matcher.match(regions, held=lambda _rule, _region: True)
        assert time.thread_time() - began < 2


def test_who_has_many_mappings_and_common_rules_is_not_refused():
    rules = [
        rule("a", entry("File", path="/usr/lib/*.so*"), entry("File", path="/models/*/w-??.bin")),
        rule("b", entry("Anonymous", name="io-*"), entry("Heap", process="redis*")),
        rule("c", entry("Heap", min_size="2Mi"), exclude=[entry(name="*log*")]),
    ]
    process = ProcessName("redis", "/usr/bin/redis")
    regions = [region(start=n * MIB, name=f"io-thread-{n}") for n in range(65_530)]
    assert Matcher(rules).match(regions, process)[-1].rule is rules[1]
    regions = [
        region("File", start=n * MIB, path=f"/models/{n}/w-{n % 100:02}.bin") for n in range(9000)
    ]
    assert Matcher(rules).match(regions, process)[-1].rule is rules[0]


def test_a_refusal_says_how_much_there_is():
    rules = many_rules("File", "path", lambda n: f"/*x{n}*")
    regions = [region("File", start=n << 20, path=path(n)) for n in range(100)]
    with pytest.raises(RulesTooCostly, match=r"mappings: 100, entries .*: 512") as refused:
        Matcher(rules).match(regions)
    assert refused.value.reason is Reason.RULES_TOO_COSTLY


def test_each_pattern_is_compared_once_with_each_text(monkeypatch):
    compared = []
    real = Glob.matches
    monkeypatch.setattr(
        Glob, "matches", lambda glob, text, work: (compared.append(text), real(glob, text, work))[1]
    )
    keys = {"name": "io-*", "process": "redis*"}
    matcher = Matcher(
        [rule("r", entry(**keys), entry(**keys, min_size="1Mi"), entry("Brk", **keys))]
    )
    regions = [region(start=n * MIB, name=f"io-{n % 2}") for n in range(9)]
    for _ in range(3):
        assert all(
            each.rule for each in matcher.match(regions, ProcessName("redis", "/bin/redis-server"))
        )
    assert sorted(compared) == ["/bin/redis-server", "io-0", "io-1", "redis", "redis-server"]
