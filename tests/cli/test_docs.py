# SPDX-License-Identifier: Apache-2.0
"""What the page shows is what the command prints of a real API server's answers."""

from __future__ import annotations

import pytest

from tests.apiserver import ApiServer
from tests.cli import page
from tests.cli.conftest import Memplace
from tests.cli.scene import playing

pytestmark = pytest.mark.timeout(90)


def test_the_page_shows_what_is_printed(api: ApiServer, memplace: Memplace) -> None:
    text = page.PAGE.read_text()
    assert len(page.commands(text)) >= 2
    with playing(api), page.manifests():
        made = page.as_printed(text, lambda command: memplace(*command.split()).out)
    assert made == text, "run tests/cli/page.py"
