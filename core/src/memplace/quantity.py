# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities as whole bytes."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache

from memplace.errors import ParseError

# "no quantity may represent a number greater than 2^63-1 in magnitude […] Numbers
# larger […] will be capped" (k8s.io/apimachinery pkg/api/resource/quantity.go).
MAX_QUANTITY = 2**63 - 1

_FACTORS = {
    "": 1,
    **{suffix: 1000**power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": 1024**power for power, suffix in enumerate("KMGTPE", start=1)},
}

# No n, u or m: a fraction of a byte is nothing, and 64m is always meant as 64Mi.
# No exponent form: nobody writes memory that way, and 1E is exa while 1E3 is not.
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?", re.ASCII)

# Wide enough for the longest field of the API (32 digits) times 2^60, exactly.
_EXACT = Context(prec=128)


def is_size(text: str) -> bool:
    """Return whether `parse_quantity` takes the text."""
    return _SIZE.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def parse_quantity(text: str) -> int:
    """Parse a size such as ``64Mi``, ``1.5Gi`` or ``1000k`` into bytes.

    Args:
        text: A number with an optional suffix: k, M, G, T, P, E (powers of 1000) or
            Ki, Mi, Gi, Ti, Pi, Ei (powers of 1024).

    Returns:
        Whole bytes, rounded up as Quantity.Value() does, at most 2^63 - 1.

    Raises:
        ParseError: Anything else, the sub-byte suffixes n, u, m and exponents included.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ParseError("size such as 64Mi", text)
    exact = _EXACT.multiply(Decimal(match[1]), Decimal(_FACTORS[match[2] or ""]))
    return min(int(exact.to_integral_value(rounding=ROUND_CEILING, context=_EXACT)), MAX_QUANTITY)


def format_quantity(size_bytes: int) -> str:
    """Format bytes with the largest binary suffix that loses nothing, such as ``64Mi``.

    Raises:
        ValueError: The size is negative.
    """
    if size_bytes < 0:
        raise ValueError(f"a size can't be negative: {size_bytes}")
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        if size_bytes and size_bytes % _FACTORS[suffix] == 0:
            return f"{size_bytes // _FACTORS[suffix]}{suffix}"
    return str(size_bytes)
