# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.errors import ParseError
from memplace.quantity import SIZE_LIMIT, format_quantity, is_size, parse_quantity


@given(st.integers(0, SIZE_LIMIT - 1))
def test_a_formatted_size_parses_to_the_same_bytes(size):
    assert parse_quantity(format_quantity(size)) == size


@given(st.integers(0, 1023), st.sampled_from(["", "Ki", "Mi", "Gi", "Ti", "Pi"]))
def test_the_largest_suffix_that_loses_nothing(number, suffix):
    text = f"{number}{suffix}"
    assert format_quantity(parse_quantity(text)) == (text if number else "0")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("64Mi", 64 << 20),
        ("1.5Gi", 3 << 29),
        ("1.5k", 1500),
        ("2M", 2_000_000),
        ("0.1", 1),
        ("0.000000001Ki", 1),
        ("1.000000001", 2),
        ("007Ki", 7168),
        ("1023Pi", 1023 << 50),
    ],
)
def test_sizes(text, size):
    assert parse_quantity(text) == size
    assert is_size(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "Mi", "64m", "64mi", "64MiB", "-1", "+1", "1e3", "1.", ".5", "1 Mi", " 1", "1\n"),
        *("0x1", "1Ei", "1E", "1024Pi", str(SIZE_LIMIT), "9" * 60, "1.0000000001", "٣"),
    ],
)
def test_anything_else_is_refused(text):
    assert not is_size(text)
    with pytest.raises(ParseError):
        parse_quantity(text)


def test_a_negative_size_has_no_text():
    with pytest.raises(ValueError, match="negative"):
        format_quantity(-1)


def test_a_number_is_bytes():
    assert parse_quantity(67108864) == parse_quantity("64Mi") == 67108864
    assert is_size(0) and not is_size(-1) and not is_size(1 << 60)
