# SPDX-License-Identifier: Apache-2.0
"""What `make release` makes: the same bytes twice, and in each file what belongs there."""

from __future__ import annotations

import email
import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from memplace_lab.base.steps import LabError
from memplace_lab.product.apiserver import find_binaries
from memplace_lab.release import sbom
from memplace_lab.release.commit import lay_out

from tests.release.making import ROOT, Release, git, release

pytestmark = pytest.mark.timeout(900)
SHELLS = {"memplace_operator": "operator", "memplace_agent": "node-agent", "memplace_cli": "cli"}
HOMES = {"memplace": "core", **SHELLS}
BASES = sorted(path.name for path in (ROOT / "kernel").glob("[0-9]*"))


def test_the_same_commit_gives_the_same_bytes(twice: tuple[Release, Release]) -> None:
    one, two = ({p.name: p.read_bytes() for p in r.folder.iterdir()} for r in twice)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_the_sums_are_those_of_all_files(released: Release) -> None:
    lines = (released.folder / "SHA256SUMS").read_text().splitlines()
    assert dict(line.split("  ")[::-1] for line in lines) == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in released.folder.iterdir()
        if path.name != "SHA256SUMS"
    }


def test_these_are_the_files(released: Release) -> None:
    assert {p.name.replace(released.version, "V") for p in released.folder.iterdir()} == {
        "SHA256SUMS",
        *(f"kubectl-memplace-V-linux-{arch}.tar.gz" for arch in ("amd64", "arm64")),
        "memplace.yaml",
        "memplace-V-source.tar.gz",
        "memplace-V.cdx.json",
        "memplace-V.tgz",
        *(f"memplace-kernel-{base}-V.tar.gz" for base in BASES),
        *(f"{name}-V.tar.gz" for name in HOMES),
        *(f"{name}-V-py3-none-any.whl" for name in HOMES if name != "memplace_agent"),
        "memplace_agent-V-cp311-abi3-linux_x86_64.whl",
    }


def test_the_sources_are_what_the_commit_has(released: Release) -> None:
    tracked = git(released.clone, "ls-files", "-z").strip("\0").split("\0")
    files = released.archive("memplace-VERSION-source.tar.gz")
    assert set(files) == set(tracked)
    for name, entry in files.items():
        path = released.clone / name
        assert entry.target == (str(path.readlink()) if path.is_symlink() else ""), name
        assert entry.target or entry.content == path.read_bytes(), name
    assert any(entry.target for entry in files.values())
    assert files["lab/test"].executable and not files["README.md"].executable


def test_helm_makes_the_same_of_the_package_and_of_the_folder(released: Release) -> None:
    def rendered(chart: Path) -> str:
        command = [str(find_binaries() / "helm"), "template", "memplace", str(chart)]
        command += ["--namespace", "memplace-system", "--kube-version", "1.35.0"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    package = released.folder / f"memplace-{released.version}.tgz"
    found = rendered(package)
    assert "kind: DaemonSet" in found and found == rendered(ROOT / "charts/memplace")


def test_the_chart_has_the_crds_the_version_and_the_licence(released: Release) -> None:
    files = released.archive("memplace-VERSION.tgz")
    for crd in (ROOT / "crds").iterdir():
        assert files[f"files/crds/{crd.name}"].content == crd.read_bytes()
    about = yaml.safe_load(files["Chart.yaml"].content)
    assert about["version"] == about["appVersion"] == released.version
    assert files["LICENSE"].content == (ROOT / "LICENSE").read_bytes()
    assert ".helmignore" in files and "README.md" in files


def test_wheels_have_all_modules_the_version_and_the_licence(released: Release) -> None:
    seen = set()
    for name, files in released.wheels():
        seen.add(name)
        home = ROOT / HOMES[name]
        modules = {str(path.relative_to(home / "src")) for path in (home / "src").rglob("*.py")}
        assert {file for file in files if file.endswith(".py")} == modules
        papers = f"{name}-{released.version}.dist-info"
        assert files[f"{papers}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
        about = email.message_from_bytes(files[f"{papers}/METADATA"])
        assert (about["Version"], about["License-Expression"]) == (released.version, "Apache-2.0")
        needs = [n for n in about.get_all("Requires-Dist", []) if n.startswith("memplace")]
        assert needs == ([f"memplace=={released.version}"] if name in SHELLS else [])
    assert seen == set(HOMES)


def test_the_agents_wheel_can_call_the_kernel(released: Release) -> None:
    files = dict(released.wheels())["memplace_agent"]
    extension = files["memplace_agent/_memplace_sys.abi3.so"]
    assert b"memplace_process_mbind" in extension
    assert str(released.clone.parent).encode() not in extension
    assert "memplace_agent/seccomp.json" in files


@pytest.mark.parametrize("name", HOMES)
def test_sdists_have_the_licence(released: Release, name: str) -> None:
    files = released.archive(f"{name}-VERSION.tar.gz")
    assert files["LICENSE"].content == (ROOT / "LICENSE").read_bytes()
    assert email.message_from_bytes(files["PKG-INFO"].content)["Version"] == released.version


@pytest.mark.parametrize("base", BASES)
def test_a_series_is_whole(released: Release, base: str) -> None:
    files = released.archive(f"memplace-kernel-{base}-VERSION.tar.gz")
    patches = {path.name: path.read_bytes() for path in (ROOT / "kernel" / base).iterdir()}
    assert {name: files[name].content for name in files if name.endswith(".patch")} == patches
    assert sum(name.startswith("0000-cover-letter") for name in files) == 2
    assert files["man/process_mbind.2"].content.startswith(b'.\\"')
    assert b"GNU GENERAL PUBLIC LICENSE" in files["LICENSES/GPL-2.0-only.txt"].content


def bill(released: Release) -> str:
    return (released.folder / f"memplace-{released.version}.cdx.json").read_text()


def test_the_bill_of_materials_is_valid(released: Release) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill(released)) is None


def test_it_tells_what_the_product_needs_from_what_builds_it(released: Release) -> None:
    components = json.loads(bill(released))["components"]
    scopes = {each["purl"]: each["scope"] for each in components}
    needed = {purl for purl, scope in scopes.items() if scope == "required"}
    assert needed == {f"pkg:pypi/{name.replace('==', '@')}" for name in _exported(released)} | {
        f"pkg:pypi/{name.replace('_', '-')}@{released.version}" for name in HOMES
    }
    rest = scopes.keys() - needed
    assert any(purl.startswith("pkg:pypi/pytest@") for purl in rest)
    assert any(purl.startswith("pkg:golang/k8s.io/kubernetes@v1.") for purl in rest)


def _exported(released: Release) -> set[str]:
    """Return name==version of what uv would install with the product."""
    packages = [word for name in SHELLS for word in ("--package", name.replace("_", "-"))]
    how = ["--frozen", "--no-dev", "--no-emit-workspace", "--no-hashes", "--no-annotate"]
    done = subprocess.run(
        ["uv", "export", "--quiet", "--no-header", *how, *packages],
        cwd=released.clone, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return {line.split(" ;")[0] for line in done.stdout.splitlines()}


def test_its_dependencies_lead_to_all_that_is_needed(released: Release) -> None:
    found = json.loads(bill(released))
    needs = {each["ref"]: each.get("dependsOn", []) for each in found["dependencies"]}
    reached = [found["metadata"]["component"]["bom-ref"]]
    for ref in reached:
        reached += [other for other in needs[ref] if other not in reached]
    required = {c["bom-ref"] for c in found["components"] if c["scope"] == "required"}
    assert set(reached[1:]) == required


STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12

Package: vim
Status: deinstall ok config-files
Architecture: amd64
Version: 2:9.1
"""


def test_packages_of_debian_are_those_of_an_image(clone: Path, tmp_path: Path) -> None:
    commit = lay_out(clone, tmp_path, allow_dirty=False)
    dpkg, distroless = tmp_path / "dpkg", tmp_path / "distroless"
    (distroless / "status.d").mkdir(parents=True)
    (distroless / "status.d/zlib1g").write_text(
        "Package: zlib1g\nVersion: 1:1.3\nArchitecture: amd64\nDescription: lib\n more\n"
    )
    dpkg.mkdir()
    (dpkg / "status").write_text(STATUS)
    found = {}
    for folder in (dpkg, distroless):
        sbom.write(commit, tmp_path, folder)
        text = (tmp_path / f"memplace-{commit.version}.cdx.json").read_text()
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
        components = json.loads(text)["components"]
        found[folder.name] = {c["purl"] for c in components if c["purl"].startswith("pkg:deb/")}
    assert found == {
        "dpkg": {"pkg:deb/debian/libc6@2.41-12?arch=amd64"},
        "distroless": {"pkg:deb/debian/zlib1g@1:1.3?arch=amd64"},
    }
    with pytest.raises(LabError, match="names no package"):
        sbom.write(commit, tmp_path, tmp_path / "tree")


def test_a_dirty_tree_is_refused_unless_asked_for(clone: Path, tmp_path: Path) -> None:
    dirt = clone / "examples/not-committed.yaml"
    dirt.write_text("{}\n")
    try:
        refused = release(clone, tmp_path / "out")
        commit = lay_out(clone, tmp_path, allow_dirty=True)
        staged = git(clone, "diff", "--cached", "--name-only")
    finally:
        dirt.unlink()
    assert refused.returncode == 1 and not (tmp_path / "out").exists()
    assert "?? examples/not-committed.yaml" in refused.stderr
    assert "make release ALLOW_DIRTY=1" in refused.stderr
    assert (commit.tree / "examples/not-committed.yaml").exists()
    assert commit.name == git(clone, "rev-parse", "HEAD").strip() + "-dirty"
    assert staged == "", "the clone's own index is left alone"


def test_what_is_no_clone_is_told_so(tmp_path: Path) -> None:
    done = release(tmp_path, tmp_path / "out")
    assert done.returncode == 1 and "is no clone" in done.stderr
