# SPDX-License-Identifier: Apache-2.0
"""Profiles of AppArmor in the guest: loaded, and taken by a program or by a thread of ours."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.guest.harness import AGENT, HARNESS, keep_capabilities, mount

UNCONFINED, DEFAULT, OWN = "", "cri-containerd.apparmor.d", "memplace-agent"
SECURITYFS = Path("/sys/kernel/security")
# linux include/uapi/linux/capability.h: DAC_OVERRIDE, SYS_ADMIN to mount, MAC_ADMIN to load.
ADMIN = (1, 21, 33)
# What somebody might write for the agent: it may read whom it likes.
PROFILES = {
    OWN: "file, network, capability sys_nice, capability sys_ptrace, ptrace (read) peer=**,",
    # A profile of a pod's own that lets others read.
    "open": "file, capability, signal, ptrace (readby) peer=**,",
}


def load() -> None:
    """Load the default of containerd, as containerd writes it, and PROFILES."""
    keep_capabilities(*HARNESS, *AGENT, *ADMIN)
    try:
        if not (SECURITYFS / "apparmor").exists():
            mount("securityfs", str(SECURITYFS))
        _parse((_folder() / "profile").read_text())
        for name, rules in PROFILES.items():
            _parse(f"profile {name} flags=(attach_disconnected,mediate_deleted) {{ {rules} }}\n")
    finally:
        keep_capabilities(*HARNESS, *AGENT)


def _folder() -> Path:
    return Path(os.environ["MEMPLACE_APPARMOR"])


def _parse(text: str) -> None:
    root = _folder() / "root"
    parser, base = root / "usr/sbin/apparmor_parser", root / "etc/apparmor.d"
    command = [str(parser), "--replace", "--skip-cache", "--quiet", "--base", str(base)]
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def at_exec(profile: str) -> Callable[[], None]:
    """Return what a child does before it executes a program, so that the program has a profile."""

    def become() -> None:
        if profile:
            Path("/proc/self/attr/exec").write_text(f"exec {profile}")

    return become


def of(pid: int) -> str:
    """Return the profile that a process has."""
    said = Path(f"/proc/{pid}/attr/current").read_text().strip()
    return "" if said == "unconfined" else said.removesuffix(" (enforce)")


def take(profile: str) -> None:
    """Give the calling thread a profile; it can't give it back."""
    if profile:
        Path("/proc/thread-self/attr/current").write_text(f"changeprofile {profile}")


def in_child(profile: str, work: Callable[[], list[str]]) -> list[str]:
    """Do something in a process that has a profile, and return what it returned."""
    low, high = os.pipe()
    if (child := os.fork()) == 0:
        try:
            take(profile)
            said = work()
        except BaseException as error:  # the parent has to hear of it
            said = [repr(error)]
        os.write(high, json.dumps(said).encode())
        os._exit(0)
    os.close(high)
    with os.fdopen(low) as pipe:
        said = json.load(pipe)
    os.waitpid(child, 0)
    return list(said)
