# SPDX-License-Identifier: Apache-2.0
"""Suites that need more than Python, by the variable that tells them where it is."""

from __future__ import annotations

NEEDS = {
    "MEMPLACE_BIN": (
        *("crd", "operator_process", "chart", "release", "cli"),
        *("gitops", "e2e", "e2e_long", "cxl"),
    ),
    "MEMPLACE_KERNEL": ("kernel", "host"),
    "MEMPLACE_STOCK_KERNEL": ("host",),
    "MEMPLACE_APPARMOR_KERNEL": ("apparmor",),
}
