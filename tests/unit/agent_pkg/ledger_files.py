# SPDX-License-Identifier: Apache-2.0
"""Claims to keep in a ledger on disk, and where."""

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

from memplace.claims import Claim, Footprint, Kept, Ours
from memplace.kinds import Mode, Policy
from memplace_agent.ledger_store import LedgerStore

A, B = "a" * 64, "b" * 64
BOOT = "0b5c0b1e-boot"
CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}), frozenset({"static"}))
BIND = Policy(Mode.BIND, frozenset({0}), home_node=0)
BOTH = frozenset({0, 1})


def claim(container=A, images=(7,), since=1.5):
    print_ = Footprint(
        images=frozenset(images),
        ours=(Ours(CXL, BOTH),),
        theirs=(Policy(Mode.BIND),),
        kept=(Kept(4096, 8192, Ours(CXL, BOTH, BIND)),),
    )
    return Claim(
        container=container,
        placement=("uid", "cache", "redis"),
        since=since,
        defaults=(Ours(CXL, BOTH),),
        footprints=(print_,),
    )


@contextlib.contextmanager
def on_tmpfs():
    """Where /run/memplace would be; fsync() costs nothing there."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path) / "run" / "memplace"


@contextlib.contextmanager
def opened(directory, boot=BOOT):
    store = LedgerStore.open(directory, boot)
    try:
        yield store
    finally:
        store.close()


def file_of(directory, container=A):
    return directory / f"{container}.v2.json"


def run(command):
    root = Path(__file__).parents[3]
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
