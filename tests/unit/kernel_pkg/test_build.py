# SPDX-License-Identifier: Apache-2.0
"""kernel/build up to the point where it would begin to work: arguments, hints, configuration."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

KERNEL = Path(__file__).parents[3] / "kernel"
BUILD = KERNEL / "build"
# What kernel/build looks for before it asks apt for anything.
BUILD_NEEDS = ("apt-get", "flex", "bison", "bc", "/usr/include/gelf.h")
SCRIPTS = (BUILD, *sorted((KERNEL / "lib").glob("*.bash")))

PACKAGES = """\
Package: something-else
Version: 1
Architecture: all
Maintainer: Nobody <nobody@example.org>
Filename: ./something-else.deb
Size: 1
MD5sum: 00000000000000000000000000000000
Description: not a kernel
"""


def build(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BUILD), *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        check=False,
    )


def bash(script: str) -> str:
    source = f"set -euo pipefail; . {KERNEL / 'lib' / 'compile.bash'}; {script}"
    return subprocess.run(["bash", "-c", source], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    """A configuration for apt with state of its own, and an archive without kernels."""
    archive = tmp_path / "archive"
    index = archive / "dists" / "trixie" / "main" / "binary-amd64"
    index.mkdir(parents=True)
    (index / "Packages").write_text(PACKAGES)
    (tmp_path / "lists" / "partial").mkdir(parents=True)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{archive} trixie main\n")
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{tmp_path}/lists";\nDir::Cache "{tmp_path}/cache";\n'
        'APT::Sandbox::User "root";\n'
    )
    return config


def test_help_names_every_option() -> None:
    done = build("--help")
    assert done.returncode == 0
    options = set(
        re.findall(r"(?<=[\s|])--[a-z]+(?=[ )|])", BUILD.read_text().split("parse_args()")[1])
    )
    assert {"--base", "--config", "--deb", "--fragment", "--out"} <= options
    assert [option for option in sorted(options) if option not in done.stdout] == []


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--base", "6.12"), "--base, --config and --out are needed"),
        (("--bass", "6.12"), "unknown argument '--bass'"),
        (("--base",), "--base needs a value"),
        (
            ("--base", "6.12", "--config", "lab", "--out", "x", "--jobs", "0"),
            "--jobs needs a number",
        ),
        (("--base", "9.9", "--config", "lab", "--out", "x"), "no patches in"),
        (("--base", "6.12", "--config", "no", "--out", "x"), "no such configuration"),
        (("--base", "6.12", "--config", "distro", "--out", "x"), "it needs --deb"),
        (("--base", "6.12", "--config", "/no/x", "--deb", "--out", "x"), "no such file: /no/x"),
    ],
)
def test_a_mistake_is_told(args: tuple[str, ...], complaint: str) -> None:
    done = build(*args)
    assert done.returncode == 1
    assert complaint in done.stderr


@pytest.mark.needs_installed(*BUILD_NEEDS)
def test_without_package_lists_it_says_apt_get_update(apt: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = build("--base", "6.12", "--config", "lab", "--out", out, APT_CONFIG=str(apt))
    assert done.returncode == 1
    assert "Run: apt-get update" in done.stderr


@pytest.mark.needs_installed(*BUILD_NEEDS)
def test_an_archive_without_the_source_is_told_what_to_add(apt: Path, tmp_path: Path) -> None:
    env = {**os.environ, "APT_CONFIG": str(apt)}
    subprocess.run(["apt-get", "-q", "update"], env=env, check=True, capture_output=True)
    out = tmp_path / "out"
    done = build("--base", "6.12", "--config", "lab", "--out", out, APT_CONFIG=str(apt))
    assert done.returncode == 1
    assert "apt knows no package linux-source-6.12" in done.stderr
    assert f"echo 'deb file:{tmp_path}/archive/ trixie-backports main'" in done.stderr


def test_of_several_fragments_the_last_line_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("# why\nCONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n")
    second.write_text('CONFIG_C=m\n# CONFIG_A is not set\nCONFIG_D="x"\n')
    assert bash(f"merged {first} {second}").splitlines() == [
        "CONFIG_B=y",
        "CONFIG_C=m",
        "# CONFIG_A is not set",
        'CONFIG_D="x"',
    ]


def test_lines_that_kconfig_dropped_are_found(tmp_path: Path) -> None:
    wanted, got = tmp_path / "wanted", tmp_path / "got"
    wanted.write_text("CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n# CONFIG_D is not set\n")
    got.write_text("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\n")
    assert bash(f"lost_lines {wanted} {got}").split("\n") == [
        "    CONFIG_B=m",
        "    # CONFIG_C is not set",
        "",
    ]


def test_progress_counts_and_extrapolates() -> None:
    clock = r"clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }"
    assert bash(f"{clock}; progress 10 100 5") == "compiling: 10 of about 100 files"
    assert bash(f"{clock}; progress 50 100 90").endswith(" of about 100 files, about 1:30 to go")
    assert bash(f"{clock}; progress 120 100 90") == "compiling: 120 files"


@pytest.mark.needs_installed("shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_short_and_clean(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 400
    done = subprocess.run(
        ["shellcheck", "-x", str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
