# SPDX-License-Identifier: Apache-2.0
"""The chart, packed and served on loopback."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

from memplace_lab.product.apiserver import ApiServer

from tests.support import ROOT


def pack(cluster: ApiServer, folder: Path) -> Path:
    """Pack the chart into a folder; return the file."""
    chart = ROOT / "charts" / "memplace"
    packed = cluster.helm("package", chart, "--destination", folder)
    assert packed.returncode == 0, packed.stderr
    (file,) = folder.glob("*.tgz")
    return file


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder's files; yields the address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
