# SPDX-License-Identifier: Apache-2.0
"""What the page of the command shows: printed of a real API server with the scene in it.

PYTHONPATH=. python tests/cli/page.py    # writes them; in the lab
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from memplace_cli.app import main
from memplace_lab.cluster import binaries
from memplace_lab.product.apiserver import ApiServer

from tests.cli.scene import TENANT, placement, playing, rule
from tests.support import ROOT

PAGE = ROOT / "docs" / "kubectl-memplace.md"
MANIFESTS = {
    "placement.yaml": [
        placement("redis-on-cxl", "redis", rule("heap", "Heap", "cxl", "dram"), priority=10),
        placement("trial", "redis", rule("heap", "Heap", "hbm")),
    ],
    "default.yaml": [
        placement(
            "heap-on-cxl",
            "redis",
            rule("heap", "Heap", "cxl"),
            kind="ClusterMemoryPlacement",
            selector={},
            namespaceSelector={
                "matchExpressions": [
                    {
                        "key": "kubernetes.io/metadata.name",
                        "operator": "In",
                        "values": ["cache", "web"],
                    }
                ]
            },
            nodeSelector={"pool": "cxl"},
        )
    ],
    "wrong.yaml": [
        placement(
            "redis-on-cxl",
            "redis",
            {"name": "heap", "regions": [{"type": "Heap"}], "policy": {"mode": "Bind"}},
            migration={"maxBandwidth": "200"},
        )
    ],
}
# Whom the page says it is, where that is not an administrator.
USERS = {"status -n cache": TENANT}
# What the page's commands draw.
PICTURES = ("kubectl-memplace-explain.svg", "kubectl-memplace-top.svg")
_BLOCK = re.compile(
    r"^    \$ kubectl memplace (.*)\n((?:    (?!\$ ).*\n|\n(?=    (?!\$ )))*)", re.MULTILINE
)

Run = Callable[[str], str]


@contextlib.contextmanager
def manifests() -> Iterator[Path]:
    """Be in a folder with the page's manifests while the block runs; pictures come there."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for name, documents in MANIFESTS.items():
            (Path(folder) / name).write_text(yaml.safe_dump_all(documents))
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def commands(text: str) -> list[str]:
    """Return the commands of the page."""
    return [match[1] for match in _BLOCK.finditer(text)]


def as_printed(text: str, run: Run) -> str:
    """Return the page with what each of its commands prints."""

    def block(match: re.Match[str]) -> str:
        lines = [f"    {line}".rstrip() for line in run(match[1]).rstrip("\n").split("\n")]
        return "\n".join([f"    $ kubectl memplace {match[1]}", *lines, ""])

    return _BLOCK.sub(block, text)


def runner(api: ApiServer) -> Run:
    """Return a way to run a command in the scene's cluster."""

    def run(command: str) -> str:
        out = io.StringIO()
        where = ["--kubeconfig", str(api.kubeconfig(USERS.get(command, "admin")))]
        # No word to who waits.
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            main([*command.split(), *where])
        return out.getvalue()

    return run


def _write() -> None:
    os.environ.setdefault("MEMPLACE_BIN", str(binaries.build_binaries()))
    with tempfile.TemporaryDirectory() as work:
        option = "--disable-admission-plugins=ServiceAccount"
        with ApiServer(Path(work), option, users=(TENANT,)).running() as api:
            api.install_crds()

            with playing(api), manifests() as folder:
                PAGE.write_text(as_printed(PAGE.read_text(), runner(api)))
                for name in PICTURES:
                    (PAGE.parent / name).write_bytes((folder / name).read_bytes())


if __name__ == "__main__":
    _write()
