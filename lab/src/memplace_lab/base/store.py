# SPDX-License-Identifier: Apache-2.0
"""The cache folder: results that take long to make, each with a key made of its inputs."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from memplace_lab.base.steps import say, step

REPO = Path(os.environ.get("MEMPLACE_REPO", "/memplace"))
CACHE = Path(os.environ.get("MEMPLACE_CACHE_DIR", "/cache"))


def digest(*parts: str | bytes | Path) -> str:
    """Return 16 hex digits over texts, files and (recursively) directories.

    A directory counts with the names, contents and execute bits of its files;
    bytecode, compiled modules and hidden files do not count.
    """
    state = hashlib.sha256()
    for part in parts:
        for chunk in _chunks(part):
            state.update(len(chunk).to_bytes(8, "big") + chunk)
    return state.hexdigest()[:16]


def _chunks(part: str | bytes | Path) -> Iterator[bytes]:
    if isinstance(part, Path) and part.is_dir():
        for path in sorted(_files(part)):
            mode = b"x" if os.access(path, os.X_OK) else b"-"
            yield str(path.relative_to(part)).encode() + mode
            yield path.read_bytes()
    elif isinstance(part, Path):
        yield part.read_bytes()
    else:
        yield part.encode() if isinstance(part, str) else part


def _files(root: Path) -> Iterable[Path]:
    for path in root.rglob("*"):
        hidden = any(p.startswith(".") or p == "__pycache__" for p in path.relative_to(root).parts)
        if path.is_file() and not hidden and path.suffix != ".so":
            yield path


def code(module: str | Path) -> str:
    """Return what a module does, as a part of a key: ``code(__file__)``.

    Its imports, comments and docstrings are left out: where the other modules lie, and what is
    said of this one, makes no other result.
    """
    tree = ast.parse(Path(module).read_text())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [one for one in body if not _says_nothing(one)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _says_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return True
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold an exclusive lock of the cache folder; a crash releases it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"lock.{name}").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def ensure(kind: str, key: str, make: Callable[[Path], None], *, title: str) -> Path:
    """Return the directory ``CACHE/kind-key``, made by ``make`` if it is not there.

    ``make`` fills a scratch directory that is renamed when it is whole, so an
    interrupted run leaves nothing that a later one could mistake for a result.
    """
    target = CACHE / f"{kind}-{key}"
    with scratch(kind) as work:
        if target.is_dir():
            say(f"{title}: from the cache")
            return target
        with step(title):
            make(work)
        work.rename(target)
        _prune(kind)
    return target


@contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """Give an empty directory in the cache; one process at a time has that of a kind.

    What an interrupted run left there is removed first.
    """
    work = CACHE / f"tmp.{kind}"
    with lock(kind):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        yield work
        shutil.rmtree(work, ignore_errors=True)


def _prune(kind: str, keep: int = 3) -> None:
    """Remove all but the youngest results of a kind; two checkouts may share the cache."""
    pattern = f"{kind}-" + "[0-9a-f]" * 16
    for old in sorted(CACHE.glob(pattern), key=lambda p: p.stat().st_mtime)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
