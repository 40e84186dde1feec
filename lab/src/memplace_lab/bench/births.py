# SPDX-License-Identifier: Apache-2.0
"""The table of bench/agent/births.py."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the table of bench/README.md."""
    lines = [
        "| | in time | event to first instruction: ms, median (least) | event to default in force "
        "in a first process: ms, median, p99 | from the last list without a process to its "
        "default: ms, median, p99 | the agent's processor time per container: ms "
        "| start: ms without | with | more |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in found.items():
        without, beside = statistics.median(row["alone"]), statistics.median(row["beside"])
        cells = (
            name,
            f"{row['in time']} of {row['containers']}",
            f"{statistics.median(row['window']):.1f} ({min(row['window']):.1f})",
            f"{statistics.median(row['in force']):.1f}, {p99(row['in force']):.1f}",
            f"{statistics.median(row['reaction']):.1f}, {p99(row['reaction']):.1f}",
            f"{row['used']:.1f}",
            f"{without:.1f}",
            f"{beside:.1f}",
            f"{beside - without:+.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def p99(values: Sequence[float]) -> float:
    """Return the value that one in a hundred is above."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]
