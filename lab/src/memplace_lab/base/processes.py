# SPDX-License-Identifier: Apache-2.0
"""Background programs of a running lab: started in its network namespace, remembered by pid."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base.steps import LabError, tail


@dataclass(frozen=True, slots=True)
class Processes:
    """The programs of one lab, each with ``NAME.pid`` and ``NAME.log`` in a directory."""

    directory: Path

    def start(self, name: str, *command: str | Path, env: Mapping[str, str] | None = None) -> int:
        """Start a program that outlives this one; return its pid."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("a") as log:
            child = subprocess.Popen(
                [str(c) for c in command], stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **(env or {})},
            )  # fmt: skip
        self._pid_file(name).write_text(f"{child.pid} {_start_time(child.pid)}")
        return child.pid

    def log(self, name: str) -> Path:
        """Return the path of a program's log."""
        return self.directory / f"{name}.log"

    def pid(self, name: str) -> int | None:
        """Return the pid of a program that runs, or None; a reused pid is not it."""
        try:
            pid, started = self._pid_file(name).read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if _start_time(int(pid)) == started else None

    def expect(self, name: str) -> int:
        """Return the pid of a program that must be running.

        Raises:
            LabError: It is not; has the end of its log.
        """
        pid = self.pid(name)
        if pid is None:
            raise LabError(f"{name} is not running; the end of its log:\n{tail(self.log(name))}")
        return pid

    def stop(self, name: str, *, timeout_s: float = 10, signum: int = signal.SIGTERM) -> None:
        """End a program and wait for it; after ``timeout_s`` by SIGKILL."""
        pid = self.pid(name)
        if pid is not None:
            _signal(pid, signum)
            deadline = time.monotonic() + timeout_s
            while self.pid(name) is not None:
                if time.monotonic() > deadline:
                    _signal(pid, signal.SIGKILL)
                _reap(pid)
                time.sleep(0.05)
        self._pid_file(name).unlink(missing_ok=True)

    def stop_all(self) -> None:
        """End every program of this lab, the youngest first."""
        if self.directory.is_dir():
            files = sorted(
                self.directory.glob("*.pid"), key=lambda f: f.stat().st_mtime, reverse=True
            )
            for file in files:
                self.stop(file.stem)

    def _pid_file(self, name: str) -> Path:
        return self.directory / f"{name}.pid"


def _start_time(pid: int) -> str:
    """Return field 22 of /proc/PID/stat, "" for a process that is gone or a zombie.

    The first thread can be a zombie while others still end: until then ports are taken.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, threads = fields[0], int(fields[17])
    return "" if state == "Z" and threads <= 1 else fields[19]


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
