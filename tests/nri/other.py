# SPDX-License-Identifier: Apache-2.0
"""An agent of text as a process of its own, for the runtime's patience with one that hangs.

python3 -m tests.nri.other SOCKET FIRST COUNT    says "plugged" when its plugin is on its way,
                                                 and then, of each line, how starts were answered

The containers FIRST to FIRST + COUNT, by the number of their process, are there from the start.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

from memplace_agent.engine.barrier import Barrier
from memplace_agent.nri.plugin import NriPlugin

from tests.support.agent.live import Live


def main(socket: str, first: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        live = Live(Path(root))
        live.expect()
        for number in range(first, first + count):
            live.machine.start(number, f"{number:064x}")
        barrier = Barrier(live.births)
        plugin = NriPlugin(Path(socket), barrier.start, live.node.metrics)
        stop = threading.Event()
        thread = threading.Thread(target=plugin.run, args=(stop, lambda: None))
        thread.start()
        with live.running():
            print("plugged", flush=True)
            for _ in sys.stdin:
                print(live.counted("nri_starts").get(("ready",), 0), flush=True)
        stop.set()
        thread.join()
        live.births.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
