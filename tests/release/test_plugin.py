# SPDX-License-Identifier: Apache-2.0
"""kubectl memplace as people get it from a release: by krew's manifest, and from the wheels."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from memplace_lab.product.apiserver import find_binaries

from tests.release.making import ROOT, Release

pytestmark = pytest.mark.timeout(900)
PYTHONS = ("311", "312", "313", "314")
MACHINES = {"amd64": ("x86_64", 62), "arm64": ("aarch64", 183)}  # with the ELF's e_machine
# Programs of the system, and no Python with packages of ours.
BARE = "/usr/bin:/bin"


def plugin(released: Release) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((released.folder / "memplace.yaml").read_text())
    return found


def archive_of(released: Release, arch: str) -> Path:
    return released.folder / f"kubectl-memplace-{released.version}-linux-{arch}.tar.gz"


def run(*command: str | Path, path: str, **env: str) -> subprocess.CompletedProcess[str]:
    # Nothing of this environment: neither its packages nor its kubeconfig.
    clean = {"PATH": path, "HOME": "/nonexistent", **env}
    return subprocess.run(
        [str(each) for each in command], env=clean, capture_output=True, text=True, timeout=300
    )


def test_the_manifest_is_one_of_krew(released: Release) -> None:
    found = plugin(released)
    assert found["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2"
    assert (found["kind"], found["metadata"]) == ("Plugin", {"name": "memplace"})
    spec = found["spec"]
    assert spec["version"] == f"v{released.version}"
    # krew shows it in a table.
    assert len(spec["shortDescription"]) <= 50
    assert "Python 3.11 to 3.14" in spec["caveats"]
    for each in spec["platforms"]:
        arch = each["selector"]["matchLabels"]["arch"]
        assert each["selector"]["matchLabels"]["os"] == "linux"
        path = archive_of(released, arch)
        assert each["uri"].rpartition("/")[2] == path.name
        assert each["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        with tarfile.open(path) as tar:
            assert tar.getmember(each["bin"]).mode & 0o111
            assert tar.extractfile("LICENSE").read() == (ROOT / "LICENSE").read_bytes()  # type: ignore[union-attr]


@pytest.mark.parametrize("arch", MACHINES)
def test_compiled_modules_are_those_of_the_machine_and_of_each_python(
    released: Release, arch: str
) -> None:
    name, number = MACHINES[arch]
    with tarfile.open(archive_of(released, arch)) as tar:
        names = tar.getnames()
        for python in PYTHONS:
            assert f"lib/msgspec/_core.cpython-{python}-{name}-linux-gnu.so" in names
        compiled = [each for each in names if ".so" in Path(each).suffixes]
        for each in compiled:
            header = tar.extractfile(each).read(20)  # type: ignore[union-attr]
            assert int.from_bytes(header[18:20], "little") == number, each


def test_it_runs_where_krew_puts_it(released: Release, tmp_path: Path) -> None:
    arch = next(each for each, (name, _) in MACHINES.items() if name == platform.machine())
    store, links = tmp_path / "store/memplace/v1", tmp_path / "bin"
    links.mkdir()
    with tarfile.open(archive_of(released, arch)) as tar:
        tar.extractall(store, filter="data")
    (links / "kubectl-memplace").symlink_to(store / "kubectl-memplace")
    path = f"{links}:{BARE}"
    kubectl = find_binaries() / "kubectl"
    done = run(kubectl, "memplace", "--help", path=path)
    assert done.returncode == 0, done.stderr
    assert "usage: kubectl memplace" in done.stdout
    # All that it imports is there: it comes as far as to want a kubeconfig.
    done = run(kubectl, "memplace", "status", path=path)
    assert done.returncode == 5, done.stderr
    assert "the kubeconfig can't be used" in done.stderr
    done = run(links / "kubectl-memplace", "__complete", "und", path=path)
    assert done.stdout.splitlines()[-1] == ":4", done.stderr


def test_another_python_is_told_so(released: Release, tmp_path: Path) -> None:
    text = (ROOT / "packaging/krew/kubectl-memplace").read_text()
    assert "NEWEST = (3, 11), (3, 14)" in text
    script = tmp_path / "kubectl-memplace"
    script.write_text(text.replace("(3, 11), (3, 14)", "(3, 98), (3, 99)"))
    done = run("/usr/bin/python3", script, path=BARE)
    assert done.returncode == 1
    assert (
        "kubectl memplace needs Python 3.98 to 3.99, and python3 on the path is 3." in done.stderr
    )


def wheels(released: Release) -> tuple[Path, Path]:
    version = released.version
    core, cli = (
        released.folder / f"{name}-{version}-py3-none-any.whl"
        for name in ("memplace", "memplace_cli")
    )
    return core, cli


def test_uv_installs_it_from_the_wheels_as_a_tool(released: Release, tmp_path: Path) -> None:
    core, cli = wheels(released)
    env = os.environ | {
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
    }
    command = ["uv", "tool", "install", "--quiet", str(cli), "--with", str(core)]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    programs = {"kubectl-memplace", "kubectl_complete-memplace", "memplace"}
    assert programs <= {each.name for each in (tmp_path / "bin").iterdir()}
    works(tmp_path / "bin")


def test_pip_installs_it_from_the_wheels_into_an_empty_venv(
    released: Release, tmp_path: Path
) -> None:
    venv = tmp_path / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", str(venv)], check=True, capture_output=True)
    command = [str(venv / "bin/pip"), "install", "--quiet", *map(str, wheels(released))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    works(venv / "bin")


def works(programs: Path) -> None:
    kubectl, path = find_binaries() / "kubectl", f"{programs}:{BARE}"
    done = run(kubectl, "memplace", "status", path=path)
    assert done.returncode == 5, done.stderr
    assert "the kubeconfig can't be used" in done.stderr
    done = run(kubectl, "__complete", "memplace", "und", path=path)
    assert done.stdout.splitlines()[0].startswith("undo"), done.stderr
