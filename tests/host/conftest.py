# SPDX-License-Identifier: Apache-2.0
"""Runs the tests with the mark ``guest`` in a guest, and reports them here: see replaying.py."""

from __future__ import annotations

import pytest

from tests.host.replaying import kernel_of, reports_of


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Report a test that ran in a guest, instead of running it here."""
    name = kernel_of(item)
    if not name:
        return None
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports_of(item, name):
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
