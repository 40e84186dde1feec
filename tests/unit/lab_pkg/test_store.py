# SPDX-License-Identifier: Apache-2.0
"""The cache: what is made of the same is made once, and what was interrupted is no result."""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.base import store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(store, "CACHE", folder)
    return folder


def write(target: Path) -> None:
    (target / "it").write_text("whole")


def test_it_is_made_once() -> None:
    made = store.ensure("thing", "0" * 16, write, title="thing")
    assert (made / "it").read_text() == "whole"

    def never(_target: Path) -> None:
        raise AssertionError("made twice")

    assert store.ensure("thing", "0" * 16, never, title="thing") == made


def test_what_was_interrupted_is_made_anew(cache: Path) -> None:
    def half(target: Path) -> None:
        (target / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.ensure("thing", "0" * 16, half, title="thing")
    assert not (cache / f"thing-{'0' * 16}").exists()
    made = store.ensure("thing", "0" * 16, write, title="thing")
    assert [path.name for path in made.iterdir()] == ["it"]


def test_a_scratch_folder_is_empty_and_goes() -> None:
    with store.scratch("images") as work:
        assert list(work.iterdir()) == []
        write(work)
    assert not work.exists()


def test_a_digest_tells_names_contents_and_what_may_be_run(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "__pycache__").mkdir(parents=True)
    (tree / "a").write_text("1")
    seen = [store.digest(tree)]
    (tree / "a").chmod(0o755)
    seen.append(store.digest(tree))
    (tree / "a").rename(tree / "b")
    seen.append(store.digest(tree))
    (tree / "b").write_text("2")
    seen.append(store.digest(tree))
    assert len(set(seen)) == 4
    # Made from what counts already, or kept by an editor.
    for name in ("__pycache__/a.pyc", "a.abi3.so", ".a.swp"):
        (tree / name).write_text("")
    assert store.digest(tree) == seen[-1]


MODULE = '''
"""A module."""
import os
from memplace_lab.old import made

SIZE = "6G"  # why


def build(target):
    """Build it."""
    from memplace_lab import late
    return made(target, SIZE)
'''


def key(tmp_path: Path, text: str) -> str:
    path = tmp_path / "module.py"
    path.write_text(text)
    return store.code(path)


def test_where_others_lie_and_what_is_said_makes_nothing_else(tmp_path: Path) -> None:
    said = MODULE.replace("A module", "The module").replace("# why", "# because")
    moved = said.replace("memplace_lab.old", "memplace_lab.new").replace("Build it", "Build all")
    assert key(tmp_path, moved) == key(tmp_path, MODULE)
    assert "import" not in key(tmp_path, MODULE)


@pytest.mark.parametrize("change", [("6G", "8G"), ("target, SIZE", "SIZE, target")])
def test_what_it_does_counts(tmp_path: Path, change: tuple[str, str]) -> None:
    assert key(tmp_path, MODULE.replace(*change)) != key(tmp_path, MODULE)


def test_a_function_of_nothing_but_words_is_still_one(tmp_path: Path) -> None:
    assert key(tmp_path, 'def f():\n    """Do nothing."""\n') == "def f():\n    pass"
