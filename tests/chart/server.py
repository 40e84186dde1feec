# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus with the recorded metrics, and questions to it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from memplace_lab.base.loopback import free_port

from tests.chart.recording import STEP_S, openmetrics

# The time of the last scrape.
UNTIL = 1_790_000_000
# What Grafana puts in: four scrapes, and all namespaces.
VARIABLES = {"$__rate_interval": f"{4 * STEP_S}s", "$namespace": ".*"}


def promtool(*arguments: object) -> str:
    """Run promtool, which has to be content."""
    command = ["promtool", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Yield the URL of a Prometheus that has the recorded metrics; it ends with the block."""
    (folder / "recorded").write_text(openmetrics(UNTIL))
    promtool("tsdb", "create-blocks-from", "openmetrics", folder / "recorded", folder / "data")
    with running(folder, {}) as url:
        yield url


@contextlib.contextmanager
def running(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    """Yield the URL of a Prometheus with a configuration; it ends with the block."""
    (folder / "config.yaml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder / 'config.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(f"http://{address}/-/ready", folder / "log")
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def _wait(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


def asked(url: str, path: str, **query: object) -> Any:
    """Return what Prometheus answers to a query."""
    try:
        with urllib.request.urlopen(f"{url}{path}?{urlencode(query)}", timeout=30) as response:
            return json.loads(response.read())["data"]
    except urllib.error.HTTPError as err:
        raise AssertionError(err.read().decode()) from err


def in_range(url: str, expression: str, steps: int) -> Any:
    """Return the series of a panel's expression over the last steps of the recording."""
    start = UNTIL - steps * STEP_S
    return asked(
        url, "/api/v1/query_range", query=filled(expression), start=start, end=UNTIL, step=STEP_S
    )["result"]


def filled(expression: str) -> str:
    """Return a panel's expression with values for Grafana's variables."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression
