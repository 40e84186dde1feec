# SPDX-License-Identifier: Apache-2.0
"""buildah, which makes images without a daemon, and the store of images in the cache."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base import store
from memplace_lab.base.steps import run

STORE = store.CACHE / "images" / "store"
# The same files give the same digests: time stamps are those of the epoch.
_BUILD = (
    *("build", "--isolation", "chroot", "--network", "host", "--timestamp", "0"),
    *("--quiet", "--format", "oci"),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its digest and its size unpacked in bytes, base first."""

    diff_id: str
    size_bytes: int


def buildah(*arguments: str | Path) -> str:
    """Run buildah on the store in the cache folder and return what it prints.

    The state of mounts lies in /run: it must not outlive the mounts themselves.
    """
    where = ("--root", STORE, "--runroot", "/run/memplace-images")
    return run("buildah", *where, "--storage-driver", "overlay", *arguments)


def build(reference: str, context: Path, *options: str | Path) -> None:
    """Build an image of this name from a folder."""
    buildah(*_BUILD, *options, "--tag", reference, context)


def exists(reference: str) -> bool:
    """Return whether the store has an image of this name and key."""
    return bool(buildah("images", "--quiet", "--filter", f"reference={reference}").strip())


def push(reference: str, registry: str, name: str) -> str:
    """Push an image to ``registry`` (HOST:PORT, plain http) as ``name``.

    Returns:
        The digest of the manifest as the registry has it, ``sha256:…``.
    """
    with tempfile.TemporaryDirectory() as folder:
        digest = Path(folder) / "digest"
        options = ("--tls-verify=false", "--quiet", "--digestfile", digest)
        buildah("push", *options, reference, f"docker://{registry}/{name}")
        return digest.read_text().strip()


def layers(reference: str) -> tuple[Layer, ...]:
    """Return the layers of an image in the store, base first."""
    image = json.loads(buildah("inspect", "--type", "image", reference))
    listed = json.loads((STORE / "overlay-layers" / "layers.json").read_text())
    sizes = {entry["diff-digest"]: entry["diff-size"] for entry in listed}
    names = image["OCIv1"]["rootfs"]["diff_ids"]
    return tuple(Layer(name, sizes[name]) for name in names)


def describe(reference: str) -> str:
    """Return one line: the name and the unpacked size of each layer in MiB."""
    sizes = [layer.size_bytes / 2**20 for layer in layers(reference)]
    return f"{reference} {sum(sizes):.1f} MiB = {' + '.join(f'{size:.1f}' for size in sizes)}"
