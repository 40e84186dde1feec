# SPDX-License-Identifier: Apache-2.0
"""What a pod has on its node as containerd's shim, for shims.py: it starts what a pipe tells it.

As runc does, a child of its own makes the program and ends before that runs: the program's
parent is then the shim, which is what orphans below it get. Each answer is one pid.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
LIBC = ctypes.CDLL(None, use_errno=True)


def start(procs, fd_in, fd_out, program):
    """Make a process in a cgroup, with these as standard input and output."""
    low, high = os.pipe()
    runc = os.fork()
    if runc == 0:
        LIBC.prctl(PR_SET_NAME, b"runc")
        pid = os.fork()
        if pid == 0:
            with open(procs, "w") as file:  # noqa: PTH123  a process that does little
                file.write(str(os.getpid()))
            os.dup2(os.open(fd_in, os.O_RDONLY), 0)
            os.dup2(os.open(fd_out, os.O_WRONLY), 1)
            os.execv(sys.executable, [sys.executable, "-S", "-c", program])
        os.write(high, b"%d\n" % pid)
        os._exit(0)
    os.waitpid(runc, 0)
    answer = os.read(low, 16).decode().strip()
    os.close(low)
    os.close(high)
    return answer


def main():
    LIBC.prctl(PR_SET_NAME, sys.argv[1].encode())
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
    print(os.getpid(), flush=True)
    for line in sys.stdin:
        print(start(*line.rstrip("\n").split("\t", 3)), flush=True)


main()
