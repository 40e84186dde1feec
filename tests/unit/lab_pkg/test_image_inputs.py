# SPDX-License-Identifier: Apache-2.0
"""What the Dockerfile takes from the checkout is in the key of images, and is sent to builders."""

from __future__ import annotations

import re
from pathlib import Path

from memplace_lab.product.images import PRODUCT_INPUTS

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def taken() -> set[str]:
    """Return the files and folders that the Dockerfile copies, or mounts while it runs."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    mounted = re.findall(r"--mount=type=bind,source=([^,]+),", DOCKERFILE)
    return {name.removeprefix("./") for line in copied for name in line.split()} | set(mounted)


def test_what_it_takes_is_part_of_the_key() -> None:
    names = taken()
    assert {"packaging", "uv.lock", "core/src/memplace", "node-agent/sys"} <= names
    for name in names:
        assert any(name == one or name.startswith(f"{one}/") for one in PRODUCT_INPUTS), name


def test_the_key_has_nothing_else() -> None:
    for one in set(PRODUCT_INPUTS) - {"Dockerfile", ".dockerignore"}:
        assert (ROOT / one).exists(), one
        assert any(name == one or name.startswith(f"{one}/") for name in taken()), one


def test_it_is_sent_to_who_builds() -> None:
    let_in = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.M)
    for name in taken():
        assert any(name == one or name.startswith(f"{one}/") for one in let_in), name


def test_who_builds_has_to_name_no_image() -> None:
    """Each base has a default that is public, or a stage of this file."""
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M))
    defaults = dict(re.findall(r"^ARG (\w+_IMAGE)=?(.*)$", DOCKERFILE, re.M))
    assert set(re.findall(r"^FROM \$\{(\w+)\}", DOCKERFILE, re.M)) == set(defaults)
    for image in defaults.values():
        assert image in stages or re.fullmatch(r"docker\.io/library/debian:trixie-slim", image)
