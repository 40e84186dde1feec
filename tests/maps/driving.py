# SPDX-License-Identifier: Apache-2.0
"""Start a program, have it do some work, record it, end it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

RECORD = Path(__file__).with_name("record.py")
AS = ("setpriv", "--init-groups")
MYSQL = ("mariadb", "--socket=/tmp/mariadb.sock", "-e")


@dataclass(frozen=True)
class Program:
    """One recording.

    Attributes:
        name: Of the file.
        title: For people, without the version.
        version: Prints the version, or the name of a Debian package whose it is.
        command: Starts it.
        how: What it does, for people.
        drive: Has it do that, and returns the process to record if it is another.
        env: Variables beside those of this process.
        ready: Whether it prints a line that begins with "ready" once it has done its work.
    """

    name: str
    title: str
    version: str
    command: Sequence[str]
    how: str
    drive: Callable[[int], int | None] = lambda _: None
    env: tuple[tuple[str, str], ...] = ()
    ready: bool = False


def run(*command: str, text: str = "") -> str:
    """Run to its end with this input; its output."""
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def until(*command: str, text: str = "") -> str:
    """Run until it succeeds; 60 s at most."""
    for _ in range(120):
        try:
            return run(*command, text=text)
        except RuntimeError:
            time.sleep(0.5)
    return run(*command, text=text)


def connected(port: int, *texts: str) -> None:
    """Send each of these to a port of this machine, and read what comes before the next."""
    for _ in range(120):
        try:
            peer = socket.create_connection(("127.0.0.1", port), timeout=10)
            break
        except OSError:
            time.sleep(0.5)
    with peer, contextlib.suppress(TimeoutError):
        for text in texts:
            peer.sendall(text.encode())
            peer.recv(1 << 16)


def strings(port: int) -> Callable[[int], None]:
    """32 MiB of strings of 1,000 bytes."""
    lines = [f"SET key:{n} {'v' * 1000}\r\n" for n in range(32 << 10)]
    return lambda _: connected(port, *lines)


def cached(pid: int) -> None:
    """16 MiB of values of 1,000 bytes."""
    connected(11211, *(f"set key:{n} 0 0 1000\r\n{'v' * 1000}\r\n" for n in range(16 << 10)))


def fetched(pid: int) -> int:
    """Ten requests; the worker."""
    for _ in range(10):
        connected(8080, "GET / HTTP/1.0\r\n\r\n")
    return child(pid)


def child(pid: int) -> int:
    """The first child."""
    time.sleep(1)
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def table(pid: int) -> None:
    """A table of 32 MiB, read."""
    until(*MYSQL, "select 1")
    run(
        *MYSQL,
        "create database maps; use maps; create table t (a int, b text);"
        "insert into t select seq, repeat('x', 1000) from seq_1_to_32768; select max(b) from t",
    )


def session(pid: int) -> int:
    """A sort of 64 MiB in a session that stays open."""
    until("pg_isready", "-q", "-h", "/tmp")
    psql = subprocess.Popen(
        (*AS, "--reuid=postgres", "--regid=postgres", "psql", "-XqAt", "-h", "/tmp"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert psql.stdin is not None
    assert psql.stdout is not None
    psql.stdin.write(
        "set work_mem = '256MB'; select pg_backend_pid(); begin; declare c cursor for"
        " select rpad((g * 7919 % 65536)::text, 950, 'x') t from generate_series(1, 65536) g"
        " order by 1; move 65535 in c; fetch from c;\n"
    )
    psql.stdin.flush()
    backend = int(psql.stdout.readline())
    psql.stdout.readline()
    KEPT.append(psql)
    return backend


def started(pid: int) -> None:
    """Nothing but its start."""
    time.sleep(8)


KEPT: list[subprocess.Popen[str]] = []  # sessions that are open while the server is recorded


def record(program: Program, out: Path) -> None:
    """Start it, have it work, record it, end it."""
    log = (Path("/tmp") / f"{program.name}.log").open("w")
    process = subprocess.Popen(
        program.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if program.ready else log,
        stderr=log,
        text=True,
        env={**os.environ, **dict(program.env)},
    )
    try:
        said = _said_ready(process) if program.ready else ""
        pid = program.drive(process.pid) or process.pid
        time.sleep(1)
        version = said or run("dpkg-query", "-W", "-f", "${Version}", program.version)
        title = f"{program.title}, {version}"
        text = run("python3", str(RECORD), str(pid), "--program", title, "--how", program.how)
        (out / f"{program.name}.txt").write_text(text)
        print(f"{program.name}: {title}: {len(text)} bytes", flush=True)
    finally:
        for peer in KEPT:
            peer.kill()
        KEPT.clear()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _said_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready"):
            # the programs of bench/heap grow when they are told to
            if "grow-go" in process.args[0] or "Grow" in process.args:  # type: ignore[index,operator]
                process.stdin.write("grow\n")
                process.stdin.flush()
                process.stdout.readline()
            version = line.removeprefix("ready").strip()
            return version if "go" in version else ""
    raise RuntimeError("it ended")
