# SPDX-License-Identifier: Apache-2.0
"""What the kernels of the guests said while the other tests of this folder ran there."""

from __future__ import annotations

import pytest

from tests.support.guest.replaying import kernel_of, told_by
from tests.support.splats import splats


@pytest.mark.parametrize("name", ["patched", "stock"])
def test_the_kernel_did_not_complain(request: pytest.FixtureRequest, name: str) -> None:
    if name not in map(kernel_of, request.session.items):
        pytest.skip("none of its tests was asked for")
    assert splats(told_by(request.session, name).console) == []
