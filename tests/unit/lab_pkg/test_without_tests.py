# SPDX-License-Identifier: Apache-2.0
"""The tests know the lab, and the lab knows no test: what a machine runs does not lie in tests/."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
# These run the tests.
RUNNERS = {"lab/test", "lab/src/memplace_lab/matrix/full.py"}
_PATH = re.compile(r"""(?:REPO|ROOT|parents\[\d\])\W+tests\b|(?<![\w/`])tests/\w""")


def sources() -> Iterator[Path]:
    """Yield what the lab, the benchmarks' machines and the images are made from."""
    yield ROOT / "Dockerfile"
    yield ROOT / ".dockerignore"
    programs = [f"bench/{path.name}" for path in (ROOT / "bench").iterdir() if path.is_dir()]
    for folder in ("lab", "packaging", *programs):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in {".pyc", ".sum", ".diff"}:
                yield path


def test_none_names_a_path_of_the_tests() -> None:
    naming = {str(path.relative_to(ROOT)) for path in sources() if _PATH.search(path.read_text())}
    assert naming == RUNNERS


def test_what_names_one_would_be_found() -> None:
    for line in ('X = store.REPO / "tests" / "e2e"', "COPY tests/e2e/x /", 'ROOT / "tests/a"'):
        assert _PATH.search(line)


def test_each_module_loads_where_there_are_none(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "lab/src", tmp_path / "src", ignore=shutil.ignore_patterns("*.pyc"))
    program = (
        "import importlib, pkgutil, memplace_lab as lab\n"
        "names = [m.name for m in pkgutil.walk_packages(lab.__path__, 'memplace_lab.')]\n"
        "for name in names: importlib.import_module(name)\n"
        "print(lab.__file__, len(names))"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=env, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    where, count = done.stdout.split()
    assert Path(where).is_relative_to(tmp_path) and int(count) > 50
