# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.errors import ParseError
from memplace.nodes import MAX_NODES, format_nodes, parse_nodes, to_words

node_sets = st.frozensets(st.integers(0, MAX_NODES - 1), max_size=40)


@given(node_sets)
def test_a_formatted_list_parses_to_the_same_nodes(nodes):
    assert parse_nodes(format_nodes(nodes)) == nodes


@given(node_sets)
def test_each_node_is_one_bit(nodes):
    words = to_words(nodes)
    assert sum(word << 64 * i for i, word in enumerate(words)) == sum(1 << n for n in nodes)
    assert all(0 <= word < 2**64 for word in words)
    assert len(words) == max(nodes, default=0) // 64 + 1


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("", set()),
        ("\n", set()),
        ("0\n", {0}),
        ("0-3,7", {0, 1, 2, 3, 7}),
        ("1-1,1023", {1, 1023}),
        ("3,1,2", {1, 2, 3}),
    ],
)
def test_lists_as_the_kernel_prints_them(text, nodes):
    assert parse_nodes(text) == nodes


@pytest.mark.parametrize(
    "text", ["a", "1-", "-1", "3-1", "1,,2", "1,", "1024", "0-1024", "1 2", "٣", "1-2-3", "0x1"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ParseError) as refused:
        parse_nodes(text)
    assert refused.value.text == text


@pytest.mark.parametrize(
    ("nodes", "text"),
    [(set(), ""), ({0}, "0"), ({0, 1}, "0-1"), ({0, 2, 3, 4, 9}, "0,2-4,9"), ([3, 1, 1], "1,3")],
)
def test_formatting(nodes, text):
    assert format_nodes(nodes) == text


@pytest.mark.parametrize(
    ("nodes", "words"), [(set(), (0,)), ({0}, (1,)), ({63}, (1 << 63,)), ({64}, (0, 1))]
)
def test_words_of_a_nodemask(nodes, words):
    assert to_words(nodes) == words


@pytest.mark.parametrize("node", [-1, MAX_NODES])
def test_nodes_that_no_kernel_has(node):
    with pytest.raises(ValueError, match="is not in"):
        to_words({node})
