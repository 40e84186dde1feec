# SPDX-License-Identifier: Apache-2.0
"""What is in the images of operator and agent, and what is not."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from memplace_lab.base.steps import LabError

from .mounted import Image

pytestmark = pytest.mark.timeout(600)
MIB = 1 << 20


def test_the_agent_is_small(agent_image: Image) -> None:
    assert sum(layer.size_bytes for layer in agent_image.layers) <= 90 * MIB


def test_the_operator_is_small(operator_image: Image) -> None:
    assert sum(layer.size_bytes for layer in operator_image.layers) <= 120 * MIB


def test_code_has_a_layer_of_its_own(image: Image) -> None:
    """A new release of the code is a small pull: base and dependencies stay."""
    base, dependencies, code = (layer.size_bytes for layer in image.layers)
    # The agent's, with its bytecode, had 3.1 MiB on 2026-11-27.
    assert code < 4 * MIB and code < dependencies < base


def test_both_stand_on_the_same_base(operator_image: Image, agent_image: Image) -> None:
    assert operator_image.layers[0] == agent_image.layers[0]


def test_users(operator_image: Image, agent_image: Image) -> None:
    assert operator_image.config["User"] == "65532:65532"
    # Kubernetes gives capabilities to root only.
    assert agent_image.config["User"] == "0:0"


def test_nothing_to_break_in_with(image: Image) -> None:
    """No shell, no package manager, no compiler, nothing set-uid."""
    programs = {path.name for path in (image.root / "usr/bin").iterdir()}
    assert programs - {"python3", "python3.13"} == set()
    assert not list((image.root / "usr/sbin").iterdir())
    for path in image.root.rglob("*"):
        mode = path.lstat().st_mode
        assert stat.S_ISLNK(mode) or not mode & (stat.S_ISUID | stat.S_ISGID), path
    assert not list(image.root.rglob("pip")) + list(image.root.rglob("ensurepip"))


def test_scanners_find_the_packages(image: Image) -> None:
    papers = image.root / "var/lib/dpkg/status.d"
    assert {"libc6", "python3.13-minimal"} <= {path.name for path in papers.iterdir()}
    assert "Version:" in (papers / "libc6").read_text()


def test_only_what_the_lock_file_names(operator_image: Image, agent_image: Image) -> None:
    def installed(image: Image) -> set[str]:
        found = (image.root / "opt/memplace/deps").glob("*.dist-info")
        return {path.name.partition("-")[0].lower() for path in found}

    assert "kopf" in installed(operator_image)
    assert "kopf" not in installed(agent_image)
    assert "cffi" in installed(agent_image)
    assert "cffi" not in installed(operator_image)
    for image in (operator_image, agent_image):
        assert not installed(image) & {"pytest", "hypothesis", "kubernetes", "pip", "setuptools"}


def test_bytecode_is_there_since_it_cannot_be_written_later(image: Image) -> None:
    for folder in ("opt/memplace/app", "opt/memplace/deps/msgspec", "usr/lib/python3.13/asyncio"):
        for source in (image.root / folder).rglob("*.py"):
            assert list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")), source


def test_the_operator_starts_read_only_and_unprivileged(operator_image: Image) -> None:
    said = operator_image.exec(*operator_image.config["Entrypoint"], "--help")
    assert "selftest" in said


def test_the_agent_loads_its_extension(agent_image: Image) -> None:
    said = agent_image.exec(
        "/usr/bin/python3", "-c",
        "import memplace_agent._memplace_sys as m; print(m.lib.memplace_process_mbind)",
    )  # fmt: skip
    assert "memplace_process_mbind" in said


def test_the_agent_installs_its_seccomp_profile(agent_image: Image, tmp_path: Path) -> None:
    agent_image.exec(
        *agent_image.config["Entrypoint"], "install-seccomp", "/mnt/memplace", bind=tmp_path
    )
    profile = json.loads((tmp_path / "memplace" / "agent.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    assert "ptrace" in {name for rule in profile["syscalls"] for name in rule["names"]}


def test_the_file_system_is_read_only_in_these_tests(agent_image: Image) -> None:
    with pytest.raises(LabError, match="Read-only file system"):
        agent_image.exec("/usr/bin/python3", "-c", "open('/opt/memplace/app/x', 'w')")


def test_the_agent_says_what_it_misses(agent_image: Image) -> None:
    with pytest.raises(LabError, match="NODE_NAME"):
        agent_image.exec(*agent_image.config["Entrypoint"])
