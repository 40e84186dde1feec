# SPDX-License-Identifier: Apache-2.0
"""The real images, built if need be, their configuration and their files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from memplace_lab import images, product

from .mounted import Image


def _mounted(target: str) -> Iterator[Image]:
    shop = product.workshop()
    reference = images.product_images(shop)[target]
    container = images.buildah(shop, "from", "--pull=never", reference).strip()
    try:
        root = Path(images.buildah(shop, "mount", container).strip())
        about = json.loads(images.buildah(shop, "inspect", "--type", "image", reference))
        yield Image(root, about["OCIv1"]["config"], images.layers(shop, reference))
        images.buildah(shop, "umount", container)
    finally:
        images.buildah(shop, "rm", container)


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
