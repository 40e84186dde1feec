# SPDX-License-Identifier: Apache-2.0
"""What the kernel of the guest said while the other tests of this folder ran there."""

from __future__ import annotations

import pytest

from tests.support.guest.replaying import told_by
from tests.support.splats import splats


def test_the_kernel_did_not_complain(request: pytest.FixtureRequest) -> None:
    assert splats(told_by(request.session, "apparmor").console) == []
