# SPDX-License-Identifier: Apache-2.0
"""The manual page of process_mbind(2): it renders, and says what the patches say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.manpage import PAGE, example

KERNEL = PAGE.parents[1]
BASES = sorted(path for path in KERNEL.iterdir() if re.fullmatch(r"\d+\.\d+", path.name))

RENDERERS = {
    "groff": ("groff", "-man", "-Tutf8", "-ww", "-z"),
    "man": ("man", "--warnings", "-l"),
    # man-pages(7) wants the title in lower case, mandoc's style does not: warnings only
    "mandoc": ("mandoc", "-T", "lint", "-W", "warning"),
}

EACH_RENDERER = pytest.mark.parametrize(
    "renderer",
    [
        pytest.param(name, marks=pytest.mark.needs_installed(command[0]))
        for name, command in RENDERERS.items()
    ],
)


def complaints(renderer: str, page: Path) -> str:
    done = subprocess.run(
        [*RENDERERS[renderer], str(page)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout if renderer == "mandoc" else ""
    return said + done.stderr + ("" if done.returncode == 0 else f"exit {done.returncode}")


def added(base: Path, file: str = "") -> str:
    """The lines that the series of a base adds, to one file or all, without their plus sign."""
    text = "\n".join(path.read_text() for path in sorted(base.glob("*.patch")))
    diffs = re.split(r"^(?=diff --git )", text, flags=re.MULTILINE)
    wanted = [diff for diff in diffs if diff.startswith(f"diff --git a/{file}")]
    lines = "\n".join(wanted).splitlines()
    return "\n".join(line[1:] for line in lines if line.startswith("+"))


@pytest.fixture(scope="module")
def words() -> str:
    """The page as text, in one line."""
    command = ["man", "--encoding=ascii", "--no-hyphenation", "-l", str(PAGE)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return " ".join(re.sub(r".\x08", "", text).split())


@EACH_RENDERER
def test_it_renders_without_a_warning(renderer: str) -> None:
    assert complaints(renderer, PAGE) == ""


@EACH_RENDERER
def test_a_broken_page_is_noticed(renderer: str, tmp_path: Path) -> None:
    broken = tmp_path / "process_mbind.2"
    broken.write_text(PAGE.read_text().replace(".SH NOTES", ".SH NOTES\n.NoSuchMacro", 1))
    assert "NoSuchMacro" in complaints(renderer, broken)


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
def test_it_shows_the_structure_of_the_patches(base: Path, words: str) -> None:
    # The structure, and what later patches add to it: there is no other in this file
    header = added(base, "include/uapi/linux/mempolicy.h")
    assert header.count("struct mpol_args {") == 1
    fields = re.findall(r"^\t(__\w+)\s+(\w+);", header, re.MULTILINE)
    shown = re.search(r"struct mpol_args \{(.*?)\}", words)
    assert shown and re.findall(r"(__\w+) (\w+);", shown[1]) == [
        (kind.replace("__aligned_u64", "__u64"), name) for kind, name in fields
    ]


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
def test_it_names_every_flag_and_the_size_of_the_patches(base: Path, words: str) -> None:
    text = added(base)
    flags = set(re.findall(r"#define (MPOL_MF_\w+)\s+\(1", text)) - {"MPOL_MF_INTERNAL"}
    assert "MPOL_MF_HOME_NODE" in flags
    assert [flag for flag in sorted(flags) if flag not in words] == []
    size = re.search(r"#define MPOL_ARGS_SIZE_VER0\s+(\d+)", text)
    assert size and f"usize is less than {size[1]};" in words
    assert f"The first version, of {size[1]} bytes, ends here" in words
    scopes = re.findall(r"#define (MPOL_FUTURE_[A-Z]+)\s+\(1", text)
    assert [scope for scope in scopes if scope not in words] == []


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
def test_it_names_the_files_of_the_announcement(base: Path, words: str) -> None:
    attributes = re.findall(r"kobj_attribute (\w+)_attr = __ATTR_RO", added(base))
    assert attributes
    versions = words[words.index("VERSIONS This") : words.index("STANDARDS")]
    assert [name for name in attributes if f" {name} " not in versions] == []


def test_the_example_compiles(tmp_path: Path) -> None:
    source, program = tmp_path / "example.c", tmp_path / "example"
    source.write_text(example())
    flags = ("-Wall", "-Wextra", "-Werror", "-O2", "-o", str(program))
    done = subprocess.run(["gcc", *flags, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
