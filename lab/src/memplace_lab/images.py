# SPDX-License-Identifier: Apache-2.0
"""Makes the container images without a daemon and without a registry.

The product's images come from the project's one Dockerfile; the base it asks
for is cut from Debian packages on the spot. Everything is keyed by what it is
made of: an image whose key exists in the store is not built again.

Needs root, mmdebstrap, dpkg-deb, buildah, gcc and uv on the machine it runs on.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import inspect
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memplace_lab import apt
from memplace_lab.debian import cut, extract, libraries, selected, words
from memplace_lab.steps import run

TARGETS = ("operator", "agent")
# Everything the Dockerfile may copy, and so the key of the product's images.
PRODUCT_INPUTS = (
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "uv.lock",
    "core",
    "operator",
    "node-agent",
    "cli/pyproject.toml",
    "lab/pyproject.toml",
    "lab/images/compile-ffi",
    "lab/images/finish-app",
    "lab/images/install-locked",
)
DEBIAN = Path(__file__).with_name("debian.py")
UV_PIN = Path(__file__).parents[2] / "tools" / "uv.pip"
NOT_INPUT = {"__pycache__", "build", "dist", ".mypy_cache", ".ruff_cache", "tests"}
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where images are made, and what of the machine's configuration is used.

    Attributes:
        tree: The checkout whose Dockerfile, sources and lab/images are used.
        cache: The lab's cache folder; the store lies in ``images/`` below it.
        sources: Lines of apt's one-line format for ``SUITE``, never empty.
        ca_bundle: PEM file for a machine behind its own certificate authority.
        index: Python package index instead of the tools' default.
    """

    tree: Path
    cache: Path
    sources: tuple[str, ...]
    ca_bundle: Path | None = None
    index: str | None = None

    @property
    def recipes(self) -> Path:
        """The folder with package lists and Containerfiles."""
        return self.tree / "lab" / "images"

    @property
    def folder(self) -> Path:
        """The folder in the cache that belongs to this module."""
        return self.cache / "images"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its digest and its size unpacked in bytes, base first."""

    diff_id: str
    size_bytes: int


def say(text: str) -> None:
    """Prints progress where it does not mix with results."""
    print(f"images: {text}", file=sys.stderr, flush=True)


def buildah(shop: Workshop, *arguments: str | Path) -> str:
    """Runs buildah on the store in the cache folder.

    The state of mounts lies in /run: it must not outlive the mounts themselves.
    """
    where = ("--root", shop.folder / "store", "--runroot", "/run/memplace-images")
    options = (*where, "--storage-driver", "overlay")
    return run("buildah", *options, *arguments)


def input_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yields files below the paths in a stable order, without by-products."""
    for path in paths:
        if path.is_file():
            yield path
        for file in sorted(path.rglob("*")) if path.is_dir() else ():
            skipped = NOT_INPUT.intersection(file.relative_to(path).parts)
            if file.is_file() and not skipped and file.suffix not in {".pyc", ".so"}:
                yield file


def key_of(root: Path, paths: Iterable[Path], *texts: str) -> str:
    """Returns 16 hex digits over names, modes and contents of files, and texts."""
    digest = hashlib.sha256()
    for file in input_files(paths):
        name = os.path.relpath(file, root)
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{name}\0{file.stat().st_mode & 0o777:o}\0{content}\n".encode())
    for text in texts:
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()[:16]


@contextmanager
def scratch(shop: Workshop) -> Iterator[Path]:
    """Gives an empty folder in the cache; only one process at a time has one.

    What an interrupted run left there is removed first.
    """
    shop.folder.mkdir(parents=True, exist_ok=True)
    with (shop.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in shop.folder.glob("tmp.*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(prefix="tmp.", dir=shop.folder) as folder:
            Path(folder).chmod(0o755)
            yield Path(folder)


def exists(shop: Workshop, reference: str) -> bool:
    """Tells whether the store has an image of this name and key."""
    return bool(buildah(shop, "images", "--quiet", "--filter", f"reference={reference}").strip())


def unpack(shop: Workshop, name: str, root: Path, variant: str = "extract") -> None:
    """Unpacks the packages of ``name.packages`` into ``root``."""
    packages = words(shop.recipes / f"{name}.packages")
    extract(packages, root, sources=shop.sources, variant=variant, ca_bundle=shop.ca_bundle)


def minimal_root(shop: Workshop, name: str, work: Path) -> Path:
    """Makes ``root`` below ``work`` from ``name.packages`` and ``name.keep``."""
    full, root = work / "full", work / "root"
    unpack(shop, name, full)
    files = selected(full, words(shop.recipes / f"{name}.keep"))
    cut(full, files | libraries(full, files), root)
    return root


def finish_base(full: Path, root: Path) -> None:
    """Adds Mozilla's certificates and the bytecode of the standard library.

    The bytecode is never checked against the source's time stamp: the root file
    system is read-only, and layers carry no time stamps of their own.
    """
    bundle = root / CERTIFICATES
    bundle.parent.mkdir(parents=True)
    mozilla = sorted((full / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    bundle.write_bytes(b"".join(file.read_bytes() for file in mozilla))
    (root / "usr/lib/ssl").mkdir(parents=True)
    (root / "usr/lib/ssl/cert.pem").symlink_to(f"/{CERTIFICATES}")
    compiler = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
    (library,) = (path for path in (root / "usr/lib").glob("python3.*") if path.is_dir())
    run("chroot", root, "/usr/bin/python3", *compiler, f"/usr/lib/{library.name}")


def commit(shop: Workshop, name: str, context: Path, reference: str) -> None:
    """Builds ``name.Containerfile`` with ``context`` as an image of this name.

    Time stamps are those of the epoch: the same files give the same digests.
    """
    options = ["--isolation", "chroot", "--network", "host", "--timestamp", "0"]
    options += ["--quiet", "--format", "oci"]
    recipe = shop.recipes / f"{name}.Containerfile"
    buildah(shop, "build", *options, "--file", recipe, "--tag", reference, context)


@contextmanager
def making(shop: Workshop, reference: str) -> Iterator[Path | None]:
    """Gives a scratch folder when the image has to be made, else None."""
    start = time.monotonic()
    with scratch(shop) as work:
        if exists(shop, reference):
            yield None
            return
        say(f"making {reference}")
        yield work
        say(f"made {reference} in {time.monotonic() - start:.0f} s")


def recipe_key(
    shop: Workshop, name: str, *makers: Callable[..., object], more: Sequence[Path]
) -> str:
    """Returns the key of an image: its recipes, the code that makes it, and ``more``."""
    code = [inspect.getsource(function) for function in (commit, *makers)]
    return key_of(shop.tree, [*sorted(shop.recipes.glob(f"{name}.*")), *more], *code)


def base_image(shop: Workshop) -> str:
    """Makes the runtime base, Debian's python3 without a shell; returns its name."""
    reference = f"localhost/memplace-base:{recipe_key(shop, 'base', finish_base, more=[DEBIAN])}"
    with making(shop, reference) as work:
        if work:
            finish_base(work / "full", minimal_root(shop, "base", work))
            shutil.rmtree(work / "full")
            commit(shop, "base", work, reference)
    return reference


def build_image(shop: Workshop) -> str:
    """Makes the image of the builder stages, with a compiler and uv; returns its name."""
    key = recipe_key(shop, "build", build_image, more=[DEBIAN, UV_PIN])
    reference = f"localhost/memplace-build:{key}"
    with making(shop, reference) as work:
        if work:
            unpack(shop, "build", work / "root", variant="minbase")
            shutil.copy2(run("which", "uv").strip(), work / "root/usr/local/bin/uv")
            commit(shop, "build", work, reference)
    return reference


def product_images(shop: Workshop) -> dict[str, str]:
    """Builds the Dockerfile's targets; returns their names in the store by target.

    A change of code alone reuses the layer of the dependencies.
    """
    base, build = base_image(shop), build_image(shop)
    key = key_of(shop.tree, [shop.tree / name for name in PRODUCT_INPUTS], base, build)
    names = {target: f"localhost/memplace/{target}:{key}" for target in TARGETS}
    for target, reference in names.items():
        with making(shop, reference) as work:
            if work:
                build_target(shop, target, reference, (base, build))
    return names


def build_target(shop: Workshop, target: str, reference: str, bases: tuple[str, str]) -> None:
    """Builds one target of the Dockerfile on (runtime base, build base)."""
    options: list[str | Path] = ["--isolation", "chroot", "--network", "host", "--layers"]
    options += ["--timestamp", "0", "--quiet", "--format", "oci", "--pull=never"]
    # buildah would raise the limits, which not every root may.
    for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        options += ["--ulimit", "{}={}:{}".format(name, *resource.getrlimit(limit))]
    options += ["--build-arg", f"BASE_IMAGE={bases[0]}", "--build-arg", f"BUILD_IMAGE={bases[1]}"]
    if shop.index:
        options += ["--build-arg", f"UV_DEFAULT_INDEX={shop.index}"]
    if shop.ca_bundle:
        options += ["--volume", f"{shop.ca_bundle}:/{CERTIFICATES}:ro"]
    buildah(shop, "build", *options, "--target", target, "--tag", reference, shop.tree)


def static_image(shop: Workshop, name: str, source: Path) -> str:
    """Makes ``lab/<name>``, one static program from one C file; returns its name."""
    reference = f"localhost/lab/{name}:{recipe_key(shop, name, static_image, more=[source])}"
    with making(shop, reference) as work:
        if work:
            (work / "root").mkdir()
            flags = ("-std=gnu17", "-Wall", "-Wextra", "-Werror", "-O1", "-static")
            run("gcc", *flags, "-o", work / "root" / name, source, "-pthread")
            run("strip", work / "root" / name)
            commit(shop, name, work, reference)
    return reference


def redis_image(shop: Workshop) -> str:
    """Makes ``lab/redis`` from Debian's packages; returns its name."""
    reference = f"localhost/lab/redis:{recipe_key(shop, 'redis', more=[DEBIAN])}"
    with making(shop, reference) as work:
        if work:
            minimal_root(shop, "redis", work)
            shutil.rmtree(work / "full")
            commit(shop, "redis", work, reference)
    return reference


def workload_images(shop: Workshop, workload: Path) -> dict[str, str]:
    """Makes what the lab's pods run; returns names by what a manifest calls them."""
    return {
        "lab/redis": redis_image(shop),
        "lab/workload": static_image(shop, "workload", workload),
        "lab/pause": static_image(shop, "pause", shop.recipes / "pause.c"),
    }


def push(shop: Workshop, reference: str, registry: str, name: str) -> str:
    """Pushes an image to ``registry`` (HOST:PORT, plain http) as ``name``.

    Returns:
        The digest of the manifest as the registry has it, ``sha256:…``.
    """
    with tempfile.TemporaryDirectory() as folder:
        digest = Path(folder) / "digest"
        options = ("--tls-verify=false", "--quiet", "--digestfile", digest)
        buildah(shop, "push", *options, reference, f"docker://{registry}/{name}")
        return digest.read_text().strip()


def layers(shop: Workshop, reference: str) -> tuple[Layer, ...]:
    """Returns the layers of an image in the store, base first."""
    image = json.loads(buildah(shop, "inspect", "--type", "image", reference))
    store = shop.folder / "store" / "overlay-layers" / "layers.json"
    sizes = {entry["diff-digest"]: entry["diff-size"] for entry in json.loads(store.read_text())}
    names = image["OCIv1"]["rootfs"]["diff_ids"]
    return tuple(Layer(name, sizes[name]) for name in names)


def describe(shop: Workshop, reference: str) -> str:
    """Returns one line: the name and the unpacked size of each layer in MiB."""
    sizes = [layer.size_bytes / 2**20 for layer in layers(shop, reference)]
    return f"{reference} {sum(sizes):.1f} MiB = {' + '.join(f'{size:.1f}' for size in sizes)}"


def arguments() -> argparse.ArgumentParser:
    """Returns the command line of the developers' entry point."""
    parser = argparse.ArgumentParser(prog="python3 -m memplace_lab.images", description=__doc__)
    default = os.environ.get("MEMPLACE_CACHE", "~/.cache/memplace")
    parser.add_argument("--cache", type=Path, default=Path(default), help="default: %(default)s")
    parser.add_argument("--tree", type=Path, default=Path(), help="the checkout (default: here)")
    parser.add_argument("--source", action="append", help="line of apt sources, again for more")
    trusted, index = os.environ.get("SSL_CERT_FILE"), os.environ.get("UV_DEFAULT_INDEX")
    parser.add_argument("--ca-bundle", type=Path, default=trusted, help="PEM file to trust")
    parser.add_argument("--index", default=index, help="Python package index to use")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("base", help="make the runtime base and the build image")
    commands.add_parser("build", help="build operator and agent")
    lab = commands.add_parser("workloads", help="make lab/redis, lab/workload, lab/pause")
    lab.add_argument("source_file", type=Path, help="C source of lab/workload")
    sending = commands.add_parser("push", help="push NAME:TAG of the store over plain http")
    sending.add_argument("reference", help="a name that build or workloads printed")
    sending.add_argument("registry", help="HOST:PORT")
    sending.add_argument("name", help="name and tag there, e.g. memplace/agent:1.2.3")
    return parser


def main() -> None:
    """Does what the command line says and prints names, sizes or a digest."""
    given = arguments().parse_args()
    shop = Workshop(
        tree=given.tree.resolve(),
        cache=given.cache.expanduser(),
        sources=tuple(given.source or apt.sources()),
        ca_bundle=given.ca_bundle,
        index=given.index,
    )
    if given.command == "push":
        print(push(shop, given.reference, given.registry, given.name))
    elif given.command == "base":
        print(*(describe(shop, name) for name in (base_image(shop), build_image(shop))), sep="\n")
    elif given.command == "build":
        print(*(describe(shop, name) for name in product_images(shop).values()), sep="\n")
    else:
        images = workload_images(shop, given.source_file).values()
        print(*(describe(shop, name) for name in images), sep="\n")


if __name__ == "__main__":
    main()
