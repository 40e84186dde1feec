# SPDX-License-Identifier: Apache-2.0
"""Commands that build everything that a cluster is made of, or the images alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from memplace_lab.base.commands import Command, Commands, Options, Parser, add_commands
from memplace_lab.base.steps import say
from memplace_lab.cluster import binaries, guest
from memplace_lab.machines import kernel
from memplace_lab.product import buildah, images, product


def _build(_options: Options) -> None:
    for made in (binaries.build_binaries(), kernel.build_kernel(), guest.build_disk()):
        say(f"built: {made}")
    for name in product.build_images():
        say(f"built: image {name}")


def _shop(options: Options) -> images.Workshop:
    return replace(images.workshop(), index=options.index)


def _with_index(parser: Parser) -> None:
    index = os.environ.get("UV_DEFAULT_INDEX")
    parser.add_argument("--index", default=index, help="Python package index to use")


def _bases(options: Options) -> None:
    shop = _shop(options)
    _describe((images.ensure_base_image(shop), images.ensure_build_image(shop)))


def _product(options: Options) -> None:
    _describe(images.build_product_images(_shop(options)).values())


def _workloads(options: Options) -> None:
    _describe(images.build_workload_images(_shop(options)).values())


def _describe(references: Iterable[str]) -> None:
    print(*(buildah.describe(name) for name in references), sep="\n")


def _push(options: Options) -> None:
    print(buildah.push(options.reference, options.registry, options.name))


def _with_names(parser: Parser) -> None:
    parser.add_argument("reference", help="a name that build or workloads printed")
    parser.add_argument("registry", help="HOST:PORT")
    parser.add_argument("name", help="name and tag there, e.g. memplace/agent:1.2.3")


_IMAGES: Commands = {
    "base": Command("make the runtime base and the build image", _bases, _with_index),
    "build": Command("build operator and agent; print names and sizes", _product, _with_index),
    "workloads": Command("make lab/redis, lab/workload, lab/pause", _workloads, _with_index),
    "push": Command("push an image over plain http; print its digest", _push, _with_names),
}

COMMANDS: Commands = {
    "build": Command("build the programs, the kernel, the workers' disk and the images", _build),
    "images": Command(
        "make container images alone, and push them",
        None,
        lambda parser: add_commands(parser, _IMAGES),
        str(images.__doc__),
    ),
}
