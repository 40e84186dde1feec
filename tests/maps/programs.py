#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The programs whose maps are recorded, and how each is started.

    programs.py OUT [NAME...]

README.md tells what it needs. It runs as root where it may write to the databases of the
programs, and ends nothing but what it started.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from driving import AS, Program, cached, child, fetched, record, session, started, strings, table

BUILT = Path("/built")
LIB = "/usr/lib/x86_64-linux-gnu"
JVM = "/usr/lib/jvm/java-{}-openjdk-amd64/bin/java"
THREADS = str(BUILT / "threads")
PG = "/usr/lib/postgresql/17/bin/postgres"
PG_DATA = "/var/lib/postgresql/17/main"


def allocator(name: str, title: str, package: str, library: str = "") -> Program:
    env = (("LD_PRELOAD", f"{LIB}/{library}"),) if library else ()
    how = "5 threads, each 4 MiB in small objects and one block of 4 MiB; one thread has ended"
    return Program(name, title, package, (str(BUILT / "threads"),), how, env=env, ready=True)


def java(name: str, release: int, *options: str) -> Program:
    return Program(
        name,
        f"OpenJDK {release}, {options[0].removeprefix('-XX:+Use')}",
        f"openjdk-{release}-jre-headless",
        (JVM.format(release), *options, "-cp", "/built/classes", "Grow"),
        f"{' '.join(options)}; 64 MiB of arrays of 4 KiB",
        ready=True,
    )


POSTGRES = (
    *(*AS, "--reuid=postgres", "--regid=postgres", PG, "-D", PG_DATA),
    *("-c", "config_file=/etc/postgresql/17/main/postgresql.conf", "-c", "listen_addresses="),
    *("-c", "unix_socket_directories=/tmp", "-c", "shared_buffers=128MB"),
)
NGINX = (
    "daemon off; user www-data; worker_processes 1; error_log /dev/null; thread_pool p threads=4;"
    "events {} http { access_log off; limit_req_zone $uri zone=z:8m rate=1000r/s;"
    " server { listen 8080; root /usr/share/doc/nginx; aio threads=p; limit_req zone=z;"
    " location / { autoindex on; } } }"
)
NODE = (
    "const {Worker} = require('worker_threads');"
    "const work = `const a = []; for (let i = 0; i < 2e5; i++) a.push({i, s: 'x' + i});"
    " setInterval(() => a.length, 1e6); require('worker_threads').parentPort.postMessage(1)`;"
    "const all = []; for (let i = 0; i < 4e5; i++) all.push({i, s: 'y' + i});"
    "const raw = Buffer.alloc(16 << 20, 1); let n = 0;"
    "for (const i of [1, 2]) new Worker(work, {eval: true}).on('message', () => {"
    " if (++n == 2) console.log('ready') }); "
    "process.stdin.on('data', () => raw.length + all.length)"
)
NUMPY = (
    "import numpy as n, threading, sys; a = n.ones((1500, 1500)); b = a @ a;"
    "small = [bytes(100) + str(i).encode() for i in range(100000)];"
    "threading.Thread(target=threading.Event().wait, daemon=True).start();"
    "print('ready', flush=True); sys.stdin.readline()"
)
PYPY = (
    "import sys, threading, _thread; a = [str(i) * 3 for i in range(400000)]; n = 0\n"
    "for i in range(3000000): n += i & 3\n"
    "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    "print('ready'); sys.stdout.flush(); sys.stdin.readline()"
)
LUA = (
    "local t, n = {}, 0; for i = 1, 4e5 do t[i] = 'x' .. i end;"
    " for i = 1, 3e7 do n = n + i % 3 end; local cs = {};"
    " for i = 1, 100 do cs[i] = coroutine.create(function() coroutine.yield(i) end);"
    " coroutine.resume(cs[i]) end; print('ready'); io.stdout:flush(); io.read()"
)
RUBY = (
    "a = (1..200_000).map { |i| 'x' * 50 + i.to_s }; 3.times { Thread.new { sleep } };"
    "f = (1..50).map { Fiber.new { Fiber.yield a.size } }; f.each(&:resume);"
    "puts 'ready'; $stdout.flush; gets"
)
ERLANG = (
    "L = lists:seq(1, 1000000), B = [binary:copy(<<I:64>>, 100) || I <- lists:seq(1, 20000)],"
    "[spawn(fun() -> receive X -> X end end) || _ <- lists:seq(1, 1000)],"
    'io:format("ready~n"), io:get_line(""), io:format("~p", [length(L) + length(B)]).'
)
LISP = (
    "(progn (require :sb-posix) (defvar *a* (loop for i below 300000 collect (make-string 20)))"
    " (dotimes (i 2) (sb-thread:make-thread (lambda () (sleep 100000))))"
    ' (format t "ready~%") (finish-output) (read-line))'
)
PROGRAMS = (
    Program(
        "redis",
        "Redis",
        "redis-server",
        ("redis-server", "--port", "6379", "--save", "", "--io-threads", "3"),
        "3 I/O threads, 32 MiB of strings of 1,000 bytes",
        strings(6379),
    ),
    Program(
        "valkey",
        "Valkey",
        "valkey-server",
        ("valkey-server", "--port", "6380", "--save", ""),
        "32 MiB of strings of 1,000 bytes",
        strings(6380),
    ),
    Program(
        "postgres-backend",
        "PostgreSQL, a backend",
        "postgresql-17",
        POSTGRES,
        "shared_buffers of 128 MB; a sort of 64 MiB in work_mem",
        session,
    ),
    Program(
        "postgres",
        "PostgreSQL, the first process",
        "postgresql-17",
        POSTGRES,
        "shared_buffers of 128 MB; a session is open",
        lambda pid: session(pid) and None,
    ),
    Program(
        "mariadb",
        "MariaDB",
        "mariadb-server",
        (
            *AS,
            "--reuid=mysql",
            "--regid=mysql",
            "mariadbd",
            "--socket=/tmp/mariadb.sock",
            "--skip-networking",
            "--innodb-buffer-pool-size=64M",
        ),
        "a buffer pool of 64 MiB; a table of 32 MiB",
        table,
    ),
    java("java-g1", 21, "-XX:+UseG1GC", "-Xmx256m"),
    java("java-zgc-views", 21, "-XX:+UseZGC", "-Xmx256m"),
    java("java-zgc", 25, "-XX:+UseZGC", "-Xmx256m"),
    java("java-serial", 25, "-XX:+UseSerialGC", "-Xmx256m", "-XX:+AlwaysPreTouch"),
    Program(
        "go",
        "Go, static",
        "ready",
        (str(BUILT / "grow-go"),),
        "64 MiB of slices of 1 KiB",
        ready=True,
    ),
    Program(
        "go-disablethp",
        "Go, static, GODEBUG=disablethp=1",
        "ready",
        (str(BUILT / "grow-go"),),
        "64 MiB of slices of 1 KiB, heap kept from huge pages",
        env=(("GODEBUG", "disablethp=1"),),
        ready=True,
    ),
    Program(
        "go-cgo",
        "Go with cgo",
        "ready",
        (str(BUILT / "cgo"),),
        "32 MiB of slices of 1 KiB; 4 threads that wait in C",
        ready=True,
    ),
    Program(
        "etcd",
        "etcd",
        "etcd-server",
        ("etcd", "--data-dir", "/tmp/etcd"),
        "started, nothing stored",
        started,
    ),
    Program(
        "node",
        "Node.js",
        "nodejs",
        ("node", "-e", NODE),
        "400,000 objects, a buffer of 16 MiB, 2 workers with 200,000 objects each",
        ready=True,
    ),
    Program(
        "numpy",
        "Python with NumPy and OpenBLAS",
        "python3-numpy",
        ("python3", "-c", NUMPY),
        "matrices of 17 MiB multiplied, 100,000 bytes objects, one thread",
        env=(("OPENBLAS_NUM_THREADS", "4"),),
        ready=True,
    ),
    Program(
        "pypy",
        "PyPy",
        "pypy3",
        ("pypy3", "-c", PYPY),
        "400,000 strings, a hot loop compiled, one thread",
        ready=True,
    ),
    Program(
        "luajit",
        "LuaJIT",
        "luajit",
        ("luajit", "-e", LUA),
        "400,000 strings, a hot loop compiled, 100 coroutines",
        ready=True,
    ),
    Program(
        "ruby",
        "Ruby",
        "ruby",
        ("ruby", "-e", RUBY),
        "200,000 strings, 3 threads, 50 fibers",
        ready=True,
    ),
    Program(
        "erlang",
        "Erlang",
        "erlang-base",
        ("erl", "+S", "2", "+A", "2", "-noshell", "-eval", ERLANG),
        "a million list cells, 20,000 binaries, 1,000 processes",
        ready=True,
    ),
    Program(
        "sbcl",
        "SBCL",
        "sbcl",
        ("sbcl", "--noinform", "--eval", LISP),
        "300,000 strings, 2 threads",
        ready=True,
    ),
    Program(
        "php-fpm",
        "PHP-FPM, a worker",
        "php8.4-fpm",
        ("php-fpm8.4", "-F", "-d", "opcache.jit_buffer_size=8M"),
        "opcache with JIT; idle",
        child,
    ),
    Program(
        "nginx",
        "nginx, a worker",
        "nginx-light",
        ("nginx", "-g", NGINX.split("events")[0], "-c", "/tmp/nginx.conf"),
        "4 threads for files, a shared zone of 8 MiB, 10 requests",
        fetched,
    ),
    Program(
        "memcached",
        "memcached",
        "memcached",
        ("memcached", "-u", "nobody", "-m", "64", "-t", "4"),
        "4 workers, 16 MiB of values",
        cached,
    ),
    Program(
        "sccache",
        "sccache (Rust)",
        "sccache",
        ("sccache",),
        "the server, idle",
        started,
        env=(("SCCACHE_START_SERVER", "1"), ("SCCACHE_NO_DAEMON", "1")),
    ),
    allocator("glibc", "C, glibc", "libc6"),
    Program(
        "glibc-names",
        "C, glibc, names",
        "libc6",
        (str(BUILT / "threads"),),
        "as glibc, with glibc.mem.decorate_maps=1",
        ready=True,
        env=(("GLIBC_TUNABLES", "glibc.mem.decorate_maps=1"),),
    ),
    # guards are not mappings with glibc 2.42 and a kernel that has MADV_GUARD_INSTALL
    Program(
        "glibc-guards",
        "C, glibc of Debian unstable",
        "libc6",
        (f"{BUILT}/sid/ld-linux-x86-64.so.2", "--library-path", f"{BUILT}/sid", THREADS),
        "as glibc",
        ready=True,
    ),
    allocator("jemalloc", "C, jemalloc", "libjemalloc2", "libjemalloc.so.2"),
    Program(
        "jemalloc-never",
        "C, jemalloc, thp:never",
        "libjemalloc2",
        (str(BUILT / "threads"),),
        "as jemalloc, kept from huge pages",
        env=(("LD_PRELOAD", f"{LIB}/libjemalloc.so.2"), ("MALLOC_CONF", "thp:never")),
        ready=True,
    ),
    allocator("tcmalloc", "C, tcmalloc", "libtcmalloc-minimal4t64", "libtcmalloc_minimal.so.4"),
    allocator("mimalloc", "C, mimalloc", "libmimalloc3", "libmimalloc.so.3"),
    Program(
        "musl", "C, musl, static", "musl", (str(BUILT / "threads-musl"),), "as glibc", ready=True
    ),
    Program(
        "asan",
        "C, glibc, AddressSanitizer of GCC",
        "libasan8",
        (str(BUILT / "threads-asan"),),
        "as glibc",
        ready=True,
    ),
    Program(
        "rings",
        "C, glibc, io_uring and locked memory",
        "libc6",
        (str(BUILT / "rings"),),
        "an io_uring with its kernel thread and a registered buffer, mlock(), huge pages,"
        " memfd, a named mapping, generated code",
        ready=True,
    ),
)


def main() -> int:
    """Record all, or those of these names; 1 if one could not be."""
    out, chosen = Path(sys.argv[1]), sys.argv[2:]
    out.mkdir(exist_ok=True)
    Path("/tmp/nginx.conf").write_text("events {" + NGINX.split("events {")[1])
    failed = 0
    for program in PROGRAMS:
        if chosen and program.name not in chosen:
            continue
        try:
            record(program, out)
        except Exception:
            failed = 1
            print(f"FAILED {program.name}", flush=True)
            traceback.print_exc()
    return failed


if __name__ == "__main__":
    sys.exit(main())
