# SPDX-License-Identifier: Apache-2.0
"""The progress of long work: numbered steps, times, and the end of the log on failure."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_STARTED = time.monotonic()


class LabError(Exception):
    """Something the lab needs is not there or failed; the text says what to do."""


def elapsed() -> str:
    """Return the time since the program started as ``m:ss``."""
    seconds = int(time.monotonic() - _STARTED)
    return f"{seconds // 60}:{seconds % 60:02d}"


def say(text: str) -> None:
    """Print one line of progress with the time since the start."""
    print(f"[{elapsed():>5}] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a piece of work, show that it lives every 30 s, and say how long it took."""
    say(f"{title} …")
    start = time.monotonic()
    done = threading.Event()

    def remind() -> None:
        while not done.wait(30):
            say(f"  … {title}: {int(time.monotonic() - start)} s so far")

    threading.Thread(target=remind, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    say(f"  {title}: done in {time.monotonic() - start:.1f} s")


def run(
    *args: str | Path,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout_s: float | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    With ``log`` the output goes to that file instead (and the result is "").

    Raises:
        LabError: The program failed or did not end in time; has the last lines of its output.
    """
    command = [str(a) for a in args]
    full_env = {**os.environ, **(env or {})}
    try:
        with _output(log) as stream:
            done = subprocess.run(
                command, cwd=cwd, env=full_env, input=stdin, text=True, timeout=timeout_s,
                stdout=stream, stderr=subprocess.STDOUT if log else subprocess.PIPE, check=False,
            )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{command[0]} did not end within {timeout_s:.0f} s: {command}") from error
    if done.returncode != 0:
        said = tail(log) if log else (done.stdout + done.stderr)[-3000:]
        where = f"\n(all of it: {log})" if log else ""
        raise LabError(f"{_shown(command)} ended with {done.returncode}:\n{said}{where}")
    return "" if log else str(done.stdout)


@contextmanager
def _output(log: Path | None) -> Iterator[TextIO | int]:
    if log is None:
        yield subprocess.PIPE
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as stream:
        yield stream


def _shown(command: Sequence[str]) -> str:
    return " ".join(command)[:300]


def tail(path: Path, lines: int = 25) -> str:
    """Return the last lines of a file, or "" when there is none."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def wait_for(
    what: str,
    probe: Callable[[], bool],
    *,
    timeout_s: float,
    interval_s: float | None = None,
    hint: Callable[[], str] = lambda: "",
) -> float:
    """Poll until ``probe`` holds and return the seconds it took.

    Without an interval it looks twice a second at first, and more seldom the longer it takes: a
    look at a cluster takes processor time that the emulated machines next to it lack.

    Raises:
        LabError: It did not hold within ``timeout_s``; ``hint`` adds what there is to see.
    """
    start = time.monotonic()
    while not probe():
        took = time.monotonic() - start
        if took > timeout_s:
            raise LabError(f"{what}: not within {timeout_s:.0f} s\n{hint()}")
        time.sleep(interval_s or min(max(0.5, took / 10), 3))
    return time.monotonic() - start
