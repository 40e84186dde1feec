# SPDX-License-Identifier: Apache-2.0
"""Something that goes on while a test looks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeating(act: Callable[[], object], *, every_s: float) -> Iterator[None]:
    """Act at once, and again after so many seconds each while the block runs."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every_s):
            act()

    thread = threading.Thread(target=run, daemon=True)
    act()
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
