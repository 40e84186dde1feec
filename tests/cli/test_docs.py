# SPDX-License-Identifier: Apache-2.0
"""What the page shows is what the command prints of a real API server's answers."""

from __future__ import annotations

import pytest
from memplace_cli.options import COMMANDS
from memplace_lab.product.apiserver import ApiServer

from tests.cli import page
from tests.cli.scene import playing

pytestmark = pytest.mark.timeout(90)


def test_the_page_shows_what_is_printed_and_drawn(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMPLACE_NAMESPACE", raising=False)
    text = page.PAGE.read_text()
    shown = {command.split()[0] for command in page.commands(text)}
    with playing(api), page.manifests() as folder:
        assert page.as_printed(text, page.runner(api)) == text, "run tests/cli/page.py"
        for name in page.PICTURES:
            assert (folder / name).read_text() == (page.PAGE.parent / name).read_text(), name
    assert shown == set(COMMANDS) - {"completion"}
