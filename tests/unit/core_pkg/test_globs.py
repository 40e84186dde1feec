# SPDX-License-Identifier: Apache-2.0
"""Shell patterns mean what fnmatch says, and what they cost is counted before it is paid."""

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from memplace import globs
from memplace.errors import RulesTooCostly
from memplace.globs import Glob, Globs, Work

LETTERS = "ab-]\n"
patterns = st.lists(
    st.sampled_from([*"ab-[]!*?\n", "**", "[ab]", "[!a]", "[]a]", "[a-b]", "[b-a]", "[!b-a]"]),
    max_size=12,
).map("".join)
texts = st.text(LETTERS, max_size=12)


def endless():
    return Work(10**12, "")


@given(patterns, texts)
@example("*ab*ab", "ab")
@example("[ab*c", "[abbc")
@example("*[!]a]*b", "-b")
@example("a*", "a\n")
@example("*?a?*", "bab")
def test_a_pattern_means_what_fnmatch_says(pattern, text):
    assert Glob(pattern).matches(text, endless()) is fnmatchcase(text, pattern)


@given(st.lists(st.sampled_from(["*", "ab", "b", "?", "[!a]b", "a" * 70]), max_size=9), st.data())
def test_so_does_one_of_several_stars(parts, data):
    # A text that matches, or does but for one letter.
    filled = {"*": st.text("ab", max_size=90), "?": texts.filter(lambda text: len(text) == 1)}
    words = [data.draw(filled.get(part, st.just(part.replace("[!a]", "-")))) for part in parts]
    text = "".join(words)
    at = data.draw(st.integers(0, len(text)))
    changed = text[:at] + data.draw(st.sampled_from(["", "a", "b"])) + text[at + 1 :]
    pattern = Glob("".join(parts))
    assert pattern.matches(text, endless())
    assert pattern.matches(changed, endless()) is fnmatchcase(changed, "".join(parts))


@pytest.mark.parametrize(
    "pattern",
    [
        ("*" + "[!b]" * 30) * 8 + "[!x]b",
        "*" + "a" * 1000 + "b*",
        "*" + "a" * 500 + "b" + "a" * 500 + "*",
        "*" + "?a" * 500 + "b*",
        "*" + "[ab]" * 250 + "b*",
        "*a" * 8 + "*",
        "/*",
        "*x*",
    ],
)
def test_what_a_pattern_costs_is_not_more_than_what_is_counted(pattern):
    # A unit is a nanosecond or two; a machine with others on it is slower than that.
    compiled = Glob(pattern)
    compiled.matches("a" * 1100 + "b", endless())
    for text in ("a" * 4095 + "x", "a" * 2400):  # str.find() searches the two in other ways
        work = endless()
        began = time.thread_time_ns()
        for _ in range(40):
            compiled.matches(text, work)
        assert time.thread_time_ns() - began < 20 * (10**12 - work._left) + 3 * 10**6


def test_a_text_is_compared_once():
    known, work = Globs(), Work(3000, "")
    assert [known.bit(glob) for glob in ("*", "a*", "*", "")] == [1, 2, 1, 0]
    for _ in range(1000):
        assert known.matching("b", work) == 1
        assert known.matching("ab", work) == 3


def test_without_patterns_nothing_matches():
    assert Globs().matching("a", endless()) == 0


def test_what_costs_more_than_is_left_is_not_begun():
    work = Work(10_000, "what it is about")
    with pytest.raises(RulesTooCostly, match="what it is about"):
        Glob("*" + "?a" * 500 + "*").matches("a" * 4095, work)


def test_texts_that_a_program_chose_do_not_fill_the_memory():
    known = Globs()
    known.bit("a*")
    for number in range(40):
        assert known.matching("a" + f"{number}" * 50_000, endless()) == 1
        assert sum(map(len, known._known)) <= globs._KEPT
    assert len(known._known) > 1
