# SPDX-License-Identifier: Apache-2.0
"""The agent's passes on a kernel with process_mbind(), in a guest with two NUMA nodes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from memplace_lab.nri import adaptation

HERE = Path(__file__).parent
STEPS = re.findall(r"^    (\w+),$", (HERE / "guest.py").read_text().split("STEPS = (")[1], re.M)


def kernel() -> Path:
    """The bzImage; not having one is a failure, no reason to skip."""
    path = Path(os.environ.get("MEMPLACE_KERNEL", "/nonexistent"))
    if not path.is_file():
        pytest.fail("set MEMPLACE_KERNEL to the bzImage that kernel/build made")
    return path


@pytest.fixture(scope="module")
def console() -> str:
    """What the guest printed; it sees the file system of this machine, read-only."""
    paths = [path for path in sys.path if path.startswith("/")]
    command = [
        "qemu-system-x86_64",
        *("-M", "q35", "-smp", "2", "-m", "768M", "-nodefaults", "-display", "none"),
        *("-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-object", "memory-backend-ram,id=m0,size=512M"),
        *("-object", "memory-backend-ram,id=m1,size=256M"),
        *("-numa", "node,nodeid=0,memdev=m0,cpus=0-1", "-numa", "node,nodeid=1,memdev=m1"),
        *("-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=root,mount_tag=root"),
        *("-serial", "stdio", "-no-reboot", "-kernel", str(kernel())),
        "-append",
        "console=ttyS0 quiet panic=-1 root=root rootfstype=9p ro "
        "rootflags=trans=virtio,version=9p2000.L,cache=loose,msize=262144 "
        f"MEMPLACE_NRI={adaptation('nri-0.8')} "
        f"NO_COLOR=1 PYTHONPATH={':'.join(paths)} PYTHONDONTWRITEBYTECODE=1 "
        f"init={sys.executable} -- -u {HERE / 'guest.py'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert "STEPS done" in done.stdout, done.stdout[-8000:] + done.stderr
    return done.stdout


@pytest.mark.timeout(700)
@pytest.mark.parametrize("step", STEPS)
def test_step(console: str, step: str) -> None:
    assert re.search(rf"^STEP {step} ok\s*$", console, re.M), console[-8000:]
