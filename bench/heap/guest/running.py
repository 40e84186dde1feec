# SPDX-License-Identifier: Apache-2.0
"""Programs that are made to grow: those that are told on their input, Redis, PostgreSQL."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

SETDEFAULT = "/heap/setdefault"
GROWTH = 64 << 20
_LOG = Path("/tmp/program.log")
_STARTED: list[subprocess.Popen[str]] = []


class GrowthError(Exception):
    """A program did not start, grow, or keep what was written into it; says why."""


class Process:
    """A program, its standard input and output as text.

    Args:
        command: What to run; it writes its errors to a log.
        env: Variables beside those of this process.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._log = _LOG.open("w")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **(env or {})},
        )
        _STARTED.append(self._process)
        self.pid = self._process.pid

    def tell(self, line: str) -> None:
        """Write a line to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def expect(self, word: str) -> str:
        """Return the rest of the next line of its output, which begins with this word.

        Raises:
            GrowthError: It does not; the text ends with what the program complained of.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline().rstrip("\n")
        if not line.startswith(word):
            raise GrowthError(f"{line!r} instead of {word!r}: {complaint()}")
        return line[len(word) :].strip()

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait until it answers; how long is the caller's alarm.

        Raises:
            GrowthError: It has ended instead.
        """
        while not ready():
            if self._process.poll() is not None:
                raise GrowthError(f"it ended: {complaint()}")
            time.sleep(0.2)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it and wait until it is gone."""
        self._process.send_signal(how)
        self._process.wait()
        self._log.close()


def end_all() -> None:
    """Kill what was started and not stopped, because something went wrong."""
    while _STARTED:
        process = _STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.wait()


def complaint() -> str:
    """Return the last lines of what the program wrote to its standard error."""
    return " / ".join(_LOG.read_text(errors="replace").splitlines()[-5:])


class Told:
    """A program of `bench/heap/programs`: "ready VERSION", a line, "grown"."""

    def __init__(
        self, prefix: Sequence[str], command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> None:
        self._process = Process((*prefix, *command), env)
        self.version = self._process.expect("ready")
        self.target = self._process.pid

    def prepare(self) -> int:
        """Return the process to look at, which is the one whose default was set."""
        return self.target

    def grow(self) -> None:
        """Have it grow and check its memory."""
        self._process.tell("grow")
        self._process.expect("grown")

    def stop(self) -> None:
        """End it."""
        self._process.stop()


class Redis:
    """redis-server without a disk; grows by SET, and every value is read back."""

    SOCKET = "/tmp/redis.sock"
    VALUE = 4000
    version = ""

    def __init__(self, prefix: Sequence[str]) -> None:
        options = ("--port", "0", "--unixsocket", self.SOCKET, "--save", "", "--appendonly", "no")
        self._process = Process((*prefix, "redis-server", *options, "--logfile", "/tmp/redis.log"))
        self.target = self._process.pid
        self._socket = socket.socket(socket.AF_UNIX)
        self._process.wait_for(self._connected)
        self._answers = self._socket.makefile("rb")

    def _connected(self) -> bool:
        return self._socket.connect_ex(self.SOCKET) == 0

    def prepare(self) -> int:
        """Return redis-server itself: it has no workers."""
        return self.target

    def grow(self) -> None:
        """Store 64 MiB of strings, in steps of 100."""
        for keys in self._batches():
            self._send([(b"SET", key, self._value(key)) for key in keys])
            for _ in keys:
                if self._answers.readline() != b"+OK\r\n":
                    raise GrowthError("SET was refused")
        for keys in self._batches():
            self._send([(b"GET", key) for key in keys])
            for key in keys:
                length = int(self._answers.readline()[1:])
                if self._answers.read(length + 2)[:-2] != self._value(key):
                    raise GrowthError(f"{key!r} changed")

    def _batches(self) -> Iterator[list[bytes]]:
        keys = (b"key:%d" % number for number in range(GROWTH // self.VALUE))
        while batch := list(itertools.islice(keys, 100)):
            yield batch

    def _value(self, key: bytes) -> bytes:
        return (key * self.VALUE)[: self.VALUE]

    def _send(self, commands: Sequence[Sequence[bytes]]) -> None:
        parts = []
        for command in commands:
            parts.append(b"*%d\r\n" % len(command))
            parts += [b"$%d\r\n%s\r\n" % (len(part), part) for part in command]
        self._socket.sendall(b"".join(parts))

    def stop(self) -> None:
        """End it; nothing is kept."""
        self._socket.close()
        self._process.stop()
        Path(self.SOCKET).unlink(missing_ok=True)


class Postgres:
    """The cluster that Debian's package made, and one session.

    Args:
        prefix: What to run it with.
        late: Connect only after the default was set for the first process of PostgreSQL.
        shared: Grow by a table in shared_buffers instead of a sort in private memory.
    """

    AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
    OPTIONS = ("listen_addresses=", "unix_socket_directories=/tmp", "shared_buffers=256MB")
    ROWS = 65536
    version = ""

    def __init__(self, prefix: Sequence[str], *, late: bool = False, shared: bool = False) -> None:
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
        major = programs.parent.name
        settings = [part for option in (*self.OPTIONS, "fsync=off") for part in ("-c", option)]
        self._server = Process(
            (
                *(*prefix, *self.AS_POSTGRES, str(programs / "postgres"), *settings),
                *("-D", f"/var/lib/postgresql/{major}/main"),
                *("-c", f"config_file=/etc/postgresql/{major}/main/postgresql.conf"),
            )
        )
        self._shared = shared
        self._session: Process | None = None
        self.target = self._server.pid
        self._server.wait_for(self._answers)
        if not late:
            self.target = self.prepare()

    def _answers(self) -> bool:
        ready = subprocess.run(("pg_isready", "-q", "-h", "/tmp"), check=False)
        return ready.returncode == 0

    def prepare(self) -> int:
        """Connect unless that was done; the process of the session."""
        if self._session is None:
            psql = ("psql", "-XqAt", "-h", "/tmp", "-v", "ON_ERROR_STOP=1")
            self._session = Process((*self.AS_POSTGRES, *psql))
            self._session.tell("drop table if exists grown; set work_mem = '512MB';")
            self._session.tell("select 'pid ' || pg_backend_pid();")
            self._backend = int(self._session.expect("pid"))
        return self._backend

    def grow(self) -> None:
        """Sort rows, which stay in memory while the cursor is open, or fill a table."""
        if self._shared:
            self._fill_shared()
        else:
            self._sort()

    def _sort(self) -> None:
        assert self._session is not None
        rows = f"select rpad((g * 7919 % {self.ROWS} + 100000)::text, 950, 'x') as t"
        self._session.tell(
            f"begin; declare sorted cursor for {rows}"
            f" from generate_series(1, {self.ROWS}) as g order by 1;"
        )
        self._session.tell(f"move {self.ROWS - 1} in sorted; fetch from sorted;")
        self._session.expect(f"{self.ROWS - 1 + 100000}x")  # the last of all rows

    def _fill_shared(self) -> None:
        assert self._session is not None
        self._session.tell("create unlogged table grown (t text);")
        self._session.tell("alter table grown alter t set storage plain;")
        self._session.tell(
            f"insert into grown select repeat(chr(65 + g % 26), 7900)"
            f" from generate_series(1, {GROWTH >> 13}) as g;"
        )
        self._session.tell("select 'sum ' || sum(length(t)) from grown;")
        if int(self._session.expect("sum")) != 7900 * (GROWTH >> 13):
            raise GrowthError("rows are missing")

    def stop(self) -> None:
        """End the session and shut the server down."""
        if self._session is not None:
            self._session.stop()
        self._server.stop(signal.SIGINT)
