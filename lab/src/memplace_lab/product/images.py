# SPDX-License-Identifier: Apache-2.0
"""The container images: the product's, their bases, and those of the lab's pods.

The product's come from the project's one Dockerfile. Anybody can build that on a public image;
the lab cuts a smaller base from Debian's packages, which has no shell. Everything is keyed by
what it is made of: an image whose key exists in the store is not built again.
"""

from __future__ import annotations

import inspect
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base import apt, debian, store
from memplace_lab.base.steps import run, step
from memplace_lab.product import buildah

TARGETS = ("operator", "agent")
PACKAGING = store.REPO / "packaging"
PODS = store.REPO / "lab" / "images"
# Everything that the Dockerfile copies, and so the key of the product's images.
PRODUCT_INPUTS = (
    *("Dockerfile", ".dockerignore", "packaging", "pyproject.toml", "uv.lock"),
    *("core/pyproject.toml", "core/src/memplace", "core/src/memplace_kube"),
    *("operator/pyproject.toml", "operator/src/memplace_operator"),
    *("node-agent/pyproject.toml", "node-agent/src/memplace_agent", "node-agent/bin"),
    *("node-agent/build_ffi.py", "node-agent/sys"),
    *("cli/pyproject.toml", "lab/pyproject.toml"),
)
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What images need of the machine that makes them.

    Attributes:
        sources: Lines of apt's one-line format, never empty.
        ca_bundle: PEM file for a machine behind its own certificate authority.
        index: Python package index instead of the tools' default.
    """

    sources: tuple[str, ...]
    ca_bundle: Path | None = None
    index: str | None = None


def workshop() -> Workshop:
    """Return what there is of it here, in the lab's root."""
    bundle = Path("/", CERTIFICATES)
    return Workshop(apt.sources(), ca_bundle=bundle if bundle.exists() else None)


def build_product_images(shop: Workshop) -> dict[str, str]:
    """Build the Dockerfile's targets; return their names in the store by target (minutes).

    A change of code alone reuses the layer of the dependencies.
    """
    bases = ensure_base_image(shop), ensure_build_image(shop)
    inputs = [part for name in PRODUCT_INPUTS for part in (name, store.REPO / name)]
    key = store.digest(*inputs, *bases)
    names = {target: f"localhost/memplace/{target}:{key}" for target in TARGETS}
    for target, reference in names.items():
        with _making(reference) as work:
            if work:
                _build_target(shop, target, reference, bases)
    return names


def build_workload_images(shop: Workshop) -> dict[str, str]:
    """Make what the lab's pods run; return names in the store by what a manifest calls them."""
    return {
        "lab/redis": ensure_redis_image(shop),
        "lab/workload": build_static_image("workload"),
        "lab/pause": build_static_image("pause"),
    }


def ensure_base_image(shop: Workshop) -> str:
    """Make the runtime base, Debian's python3 without a shell; return its name (a minute)."""
    recipe = PACKAGING / "base"
    reference = f"localhost/memplace-base:{_key(recipe, _finish_base)}"
    with _making(reference) as work:
        if work:
            _finish_base(work / "full", _minimal_root(shop, recipe, work))
            shutil.rmtree(work / "full")
            _commit(recipe, work, reference)
    return reference


def ensure_build_image(shop: Workshop) -> str:
    """Make the image of the builder stages, with a compiler and uv; return its name (a minute)."""
    recipe = PACKAGING / "build"
    key = _key(recipe, ensure_build_image, more=(PACKAGING / "uv.pip",))
    reference = f"localhost/memplace-build:{key}"
    with _making(reference) as work:
        if work:
            _unpack(shop, recipe, work / "root", variant="minbase")
            shutil.copy2(run("which", "uv").strip(), work / "root/usr/local/bin/uv")
            _commit(recipe, work, reference)
    return reference


def ensure_redis_image(shop: Workshop) -> str:
    """Make ``lab/redis`` from Debian's packages; return its name."""
    recipe = PODS / "redis"
    reference = f"localhost/lab/redis:{_key(recipe)}"
    with _making(reference) as work:
        if work:
            _minimal_root(shop, recipe, work)
            shutil.rmtree(work / "full")
            _commit(recipe, work, reference)
    return reference


def build_static_image(name: str) -> str:
    """Make ``lab/NAME``, one static program from one C file; return its name (seconds)."""
    recipe = PODS / name
    reference = f"localhost/lab/{name}:{_key(recipe, build_static_image)}"
    with _making(reference) as work:
        if work:
            (work / "root").mkdir()
            flags = ("-std=gnu17", "-Wall", "-Wextra", "-Werror", "-O1", "-static")
            source = recipe.with_suffix(".c")
            run("gcc", *flags, "-o", work / "root" / name, source, "-pthread")
            run("strip", work / "root" / name)
            _commit(recipe, work, reference)
    return reference


@contextmanager
def _making(reference: str) -> Iterator[Path | None]:
    """Give a scratch folder when the image has to be made, else None."""
    with store.scratch("images") as work:
        if buildah.exists(reference):
            yield None
            return
        with step(f"image {reference}"):
            yield work


def _key(recipe: Path, *makers: Callable[..., object], more: tuple[Path, ...] = ()) -> str:
    """Return the key of an image: its recipe's files, the code that makes it, and ``more``."""
    files = [part for file in sorted(recipe.parent.glob(f"{recipe.name}.*"))
             for part in (file.name, file)]  # fmt: skip
    code = [inspect.getsource(function) for function in (_commit, *makers)]
    return store.digest(*files, *more, store.code(str(debian.__file__)), *code)


def _unpack(shop: Workshop, recipe: Path, root: Path, variant: str = "extract") -> None:
    """Unpack the packages of a recipe into ``root``."""
    packages = debian.read_list(recipe.with_suffix(".packages"))
    debian.extract(packages, root, sources=shop.sources, variant=variant, ca_bundle=shop.ca_bundle)


def _minimal_root(shop: Workshop, recipe: Path, work: Path) -> Path:
    """Make ``root`` below ``work`` from a recipe's list of packages and of files to keep."""
    full, root = work / "full", work / "root"
    _unpack(shop, recipe, full)
    files = debian.select_files(full, debian.read_list(recipe.with_suffix(".keep")))
    debian.copy_files(full, files | debian.find_libraries(full, files), root)
    return root


def _finish_base(full: Path, root: Path) -> None:
    """Add Mozilla's certificates and the bytecode of the standard library.

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


def _commit(recipe: Path, work: Path, reference: str) -> None:
    """Build a recipe's Containerfile, whose context is a scratch folder with ``root``."""
    buildah.build(reference, work, "--file", recipe.with_suffix(".Containerfile"))


def _build_target(shop: Workshop, target: str, reference: str, bases: tuple[str, str]) -> None:
    """Build one target of the Dockerfile on (runtime base, build base)."""
    options: list[str | Path] = ["--layers", "--pull=never", "--target", target]
    # buildah would raise the limits, which not every root may.
    for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        options += ["--ulimit", "{}={}:{}".format(name, *resource.getrlimit(limit))]
    options += ["--build-arg", f"BASE_IMAGE={bases[0]}", "--build-arg", f"BUILD_IMAGE={bases[1]}"]
    if shop.index:
        options += ["--build-arg", f"UV_DEFAULT_INDEX={shop.index}"]
    if shop.ca_bundle:
        options += ["--volume", f"{shop.ca_bundle}:/{CERTIFICATES}:ro"]
    buildah.build(reference, store.REPO, *options)
