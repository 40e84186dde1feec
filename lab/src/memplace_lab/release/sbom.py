# SPDX-License-Identifier: Apache-2.0
"""The bill of materials: what the product needs, and what builds and tests it, as CycloneDX.

Python's packages are those of uv.lock, Go's those of the sums of the lab's programs. What only
builds and tests has the scope ``excluded``. Packages of Debian, of which the images consist
otherwise, are those that an image's own var/lib/dpkg tells: a commit does not pin them.
"""

from __future__ import annotations

import re
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from memplace_lab.base.steps import LabError
from memplace_lab.release.commit import Commit

_PRODUCT = ("memplace", "memplace-operator", "memplace-agent", "memplace-cli")
_GO_SUMS = (
    *("lab/go/go.sum", "lab/lint/go.sum", "lab/flux/go.sum", "lab/argocd/go.sum"),
    *("lab/nri/go.sum", "lab/nri/nri-0.8.sum", "lab/apparmor/go.sum", "lab/trivy/go.sum"),
)

Package = Mapping[str, Any]


def write(commit: Commit, out: Path, dpkg: Path | None = None) -> None:
    """Write the bill of materials of a commit.

    Args:
        commit: The commit.
        out: Where to.
        dpkg: The var/lib/dpkg of an image of this commit; without it Debian's packages are left
            out.

    Raises:
        LabError: That folder names no package.
    """
    bom = _bom(commit)
    for each in debian(dpkg) if dpkg else ():
        bom.components.add(each)
    name = f"memplace-{commit.version}.cdx.json"
    (out / name).write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")


def _bom(commit: Commit) -> Bom:
    about = Component(
        name="memplace",
        version=commit.version,
        type=ComponentType.APPLICATION,
        bom_ref=f"memplace@{commit.version}",
        properties=[Property(name="memplace:commit", value=commit.name)],
    )
    bom = Bom(
        # The same each time, and another one for each commit.
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"https://memplace.dev/sbom/{commit.name}"),
        metadata=BomMetaData(
            component=about, timestamp=datetime.fromtimestamp(commit.epoch_s, tz=UTC)
        ),
    )
    packages = _locked(commit)
    needed = _closure(packages)
    found = {name: _python(package, needed=name in needed) for name, package in packages.items()}
    for each in (*found.values(), *_go(commit.tree)):
        bom.components.add(each)
    bom.register_dependency(about, [found[name] for name in _PRODUCT])
    for name in needed:
        bom.register_dependency(found[name], [found[other] for other in _needs(packages[name])])
    return bom


def _locked(commit: Commit) -> dict[str, Package]:
    lock = tomllib.loads((commit.tree / "uv.lock").read_text())
    # The workspace itself is nothing that can be installed, the lab nothing that is released.
    return {
        package["name"]: {"version": commit.version, **package}
        for package in lock["package"]
        if package["name"] in _PRODUCT or "registry" in package["source"]
    }


def _needs(package: Package) -> list[str]:
    return [each["name"] for each in package.get("dependencies", ())]


def _closure(packages: Mapping[str, Package]) -> list[str]:
    """Return what the product needs when it runs, each once, the product's own first."""
    found = list(_PRODUCT)
    for name in found:
        found += [each for each in _needs(packages[name]) if each not in found]
    return found


def _python(package: Package, *, needed: bool) -> Component:
    url = PackageURL("pypi", None, package["name"], package["version"])
    file = package.get("sdist") or next(iter(package.get("wheels", ())), None)
    return Component(
        name=package["name"],
        version=package["version"],
        type=ComponentType.LIBRARY,
        bom_ref=str(url),
        purl=url,
        scope=ComponentScope.REQUIRED if needed else ComponentScope.EXCLUDED,
        external_references=[_distribution(file)] if file else [],
    )


def _distribution(file: Package) -> ExternalReference:
    return ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(file["url"]),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file["hash"].removeprefix("sha256:"))],
    )


def _go(tree: Path) -> Iterator[Component]:
    """Yield each module whose code may be in a program of the lab, not those only looked at."""
    lines = {line for name in _GO_SUMS for line in (tree / name).read_text().splitlines()}
    for line in lines:
        if found := re.fullmatch(r"(\S+) (v[^\s/]+) (h1:\S+)", line):
            path, version, content = found.groups()
            namespace, _, name = path.rpartition("/")
            url = PackageURL("golang", namespace or None, name, version)
            yield Component(
                name=path,
                version=version,
                type=ComponentType.LIBRARY,
                bom_ref=str(url),
                purl=url,
                scope=ComponentScope.EXCLUDED,
                # Go's own sum, over a list of the files: no hash of a file.
                properties=[Property(name="memplace:go.sum", value=content)],
            )


def debian(dpkg: Path) -> list[Component]:
    """Return the packages that an image has, from dpkg's own files.

    Args:
        dpkg: var/lib/dpkg: with the file ``status``, or with ``status.d`` of an image without dpkg.
    """
    files = [dpkg / "status", *sorted((dpkg / "status.d").glob("*"))]
    stanzas = [
        dict(re.findall(r"^([A-Z][\w-]*): (.*)$", text, re.M))
        for file in files
        if file.is_file()
        for text in file.read_text().split("\n\n")
    ]
    # A package that was removed keeps its stanza as long as its configuration is there.
    there = [
        one
        for one in stanzas
        if "Package" in one and one.get("Status", " installed").endswith(" installed")
    ]
    if not there:
        raise LabError(f"{dpkg} names no package: it is to be the var/lib/dpkg of an image")
    return [_debian(one) for one in there]


def _debian(stanza: Mapping[str, str]) -> Component:
    name, version = stanza["Package"], stanza["Version"]
    url = PackageURL("deb", "debian", name, version, {"arch": stanza["Architecture"]})
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=str(url),
        purl=url,
        scope=ComponentScope.REQUIRED,
        properties=[Property(name="memplace:in", value="images")],
    )
