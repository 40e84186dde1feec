# SPDX-License-Identifier: Apache-2.0
"""Sizes as Kubernetes quantities, and as whole bytes."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from functools import lru_cache
from math import ceil

from memplace.errors import ParseError

# Less than 1Ei: Linux addresses have at most 57 bits, and beyond 2^63 Kubernetes caps
# some quantities and not others (k8s.io/apimachinery pkg/api/resource/quantity.go).
SIZE_LIMIT = 1 << 60

_FACTORS = {
    "": 1,
    **{suffix: 1000**power for power, suffix in enumerate("kMGTP", start=1)},
    **{f"{suffix}i": 1024**power for power, suffix in enumerate("KMGTP", start=1)},
}

# A part of what Kubernetes takes. No n, u or m: a fraction of a byte is nothing, and 64m is
# always meant as 64Mi. No exponents: nobody writes memory that way. At most nine decimals,
# since a Quantity is exact to nano.
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]{1,9})?)(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?", re.ASCII)

# Wide enough for 1Ei with nine decimals; larger numbers are refused all the same.
_EXACT = Context(prec=64)


def parse_quantity(text: str | int) -> int:
    """Parse a size such as ``64Mi``, ``1.5Gi`` or ``1000k`` into bytes.

    Args:
        text: A number, or a text of one with an optional suffix: k, M, G, T, P (powers of
            1000) or Ki, Mi, Gi, Ti, Pi (powers of 1024).

    Returns:
        Whole bytes, rounded up as Quantity.Value() does, less than SIZE_LIMIT.

    Raises:
        ParseError: Anything else: other suffixes, exponents, signs, or too large.
    """
    return ceil(exact_bytes(text))


def exact_bytes(text: str | int) -> Decimal:
    """Parse a size like `parse_quantity`, without rounding, for comparisons.

    Raises:
        ParseError: As for `parse_quantity`.
    """
    return _exact_bytes(str(text))


@lru_cache(maxsize=1024)
def _exact_bytes(text: str) -> Decimal:
    match = _SIZE.fullmatch(text)
    size = match and _EXACT.multiply(Decimal(match[1]), Decimal(_FACTORS[match[2] or ""]))
    if size is None or size >= SIZE_LIMIT:
        raise ParseError("size such as 64Mi", text)
    return size


def is_size(text: str | int) -> bool:
    """Return whether `parse_quantity` takes the text."""
    try:
        exact_bytes(text)
    except ParseError:
        return False
    return True


def format_quantity(size_bytes: int) -> str:
    """Format bytes with the largest binary suffix that loses nothing, such as ``64Mi``.

    Raises:
        ValueError: The size is negative.
    """
    if size_bytes < 0:
        raise ValueError(f"a size can't be negative: {size_bytes}")
    for suffix in ("Pi", "Ti", "Gi", "Mi", "Ki"):
        if size_bytes and size_bytes % _FACTORS[suffix] == 0:
            return f"{size_bytes // _FACTORS[suffix]}{suffix}"
    return str(size_bytes)
