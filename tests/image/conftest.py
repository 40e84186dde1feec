# SPDX-License-Identifier: Apache-2.0
"""The real images, built if need be, their configuration and their files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from memplace_lab.product import images
from memplace_lab.product.buildah import buildah, layers

from .mounted import Image


def _mounted(target: str) -> Iterator[Image]:
    reference = images.build_product_images(images.workshop())[target]
    container = buildah("from", "--pull=never", reference).strip()
    try:
        root = Path(buildah("mount", container).strip())
        about = json.loads(buildah("inspect", "--type", "image", reference))
        yield Image(root, about["OCIv1"]["config"], layers(reference))
        buildah("umount", container)
    finally:
        buildah("rm", container)


@pytest.fixture(scope="session")
def operator_image() -> Iterator[Image]:
    yield from _mounted("operator")


@pytest.fixture(scope="session")
def agent_image() -> Iterator[Image]:
    yield from _mounted("agent")


@pytest.fixture(params=["operator", "agent"])
def image(request: pytest.FixtureRequest) -> Image:
    assert os.geteuid() == 0, "mounting an image needs root: run through lab/enter"
    found: Image = request.getfixturevalue(f"{request.param}_image")
    return found
