# SPDX-License-Identifier: Apache-2.0
"""Runs the tests with the mark ``guest`` in a guest, and reports them here: see replaying.py."""

from __future__ import annotations

import pytest

from tests.support.guest import replaying


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Report a test that ran in a guest, instead of running it here."""
    return replaying.replay(item, nextitem)
