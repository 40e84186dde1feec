# SPDX-License-Identifier: Apache-2.0
"""The packages under test, and the guest they are installed in, boot by boot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from memplace_lab.base import apt, store
from memplace_lab.base.steps import run, say

from tests.support import manpage

from . import machine, stages

BASE = "6.12"
KERNEL = store.REPO / "kernel"


@pytest.fixture(scope="session")
def packages() -> Path:
    """A folder that kernel/build --deb made: $MEMPLACE_KERNEL_DEBS, or built here."""
    if given := os.environ.get("MEMPLACE_KERNEL_DEBS"):
        return Path(given)

    def make(target: Path) -> None:
        apt.update()
        run(
            *(KERNEL / "build", "--base", BASE, "--config", "guest", "--deb"),
            *("--out", target, "--work", store.CACHE / f"kernel-work-{BASE}"),
            log=store.CACHE / "log" / "kernel-deb.log",
        )

    inputs = (BASE, "build", "lib", f"configs/guest-{BASE}.config")
    key = store.digest(*(KERNEL / part for part in inputs))
    return store.ensure("kernel-deb", key, make, title=f"Linux {BASE} as Debian packages")


@pytest.fixture(scope="session")
def release(packages: Path) -> str:
    return (packages / "release").read_text().strip()


@pytest.fixture(scope="session")
def boots(
    packages: Path, release: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, machine.Boot]:
    """The life of the package in the guest: one machine, three boots, one after the other."""
    directory = tmp_path_factory.mktemp("guest")
    feature = KERNEL / "nfd" / "memplace-nfd-feature"
    programs = (_target(directory), _example(directory), feature)
    machine.make_disk(directory)
    images = tuple(packages.glob("linux-image-*.deb"))
    plan = {
        "install": (stages.INSTALL, (*images, *programs)),
        "check": (stages.CHECK, programs),
        "back": (stages.BACK, (feature,)),
    }
    done = {}
    for name, (script, payload) in plan.items():
        text = script.replace("RELEASE", release)
        done[name] = machine.boot(directory, name, text, payload)
        say(f"{name}: up after {done[name].up_s:.0f} s, off after {done[name].total_s:.0f} s")
        if "STAGE-ENDED 0" not in done[name].console:
            pytest.fail(f"{name} failed; its console ends with:\n{done[name].console[-4000:]}")
    return done


def _target(directory: Path) -> Path:
    return _compile(Path(__file__).parent / "target.c", directory / "target")


def _example(directory: Path) -> Path:
    """The example of the manual page is the program that makes the call."""
    source = directory / "example.c"
    source.write_text(manpage.example())
    return _compile(source, directory / "process_mbind")


def _compile(source: Path, program: Path) -> Path:
    subprocess.run(["gcc", "-static", "-O2", "-Wall", "-o", program, source], check=True)
    return program
