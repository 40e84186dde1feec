# SPDX-License-Identifier: Apache-2.0
"""The program as kubectl starts it, and what it says where there is nothing to talk to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from memplace_lab.base.loopback import free_port
from memplace_lab.product.apiserver import ApiServer

from tests.cli.site import Memplace, Site

pytestmark = pytest.mark.timeout(60)

SCRIPTS = Path(sys.executable).parent


def test_kubectl_finds_it(api: ApiServer, site: Site) -> None:
    site.node_report()
    env = os.environ | {
        "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
        "KUBECONFIG": str(api.kubeconfig("admin")),
    }
    command = [str(api.binaries / "kubectl"), "memplace", "tiers"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert site.node in done.stdout


def test_it_is_called_memplace_too() -> None:
    command = [str(SCRIPTS / "memplace"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "exit status:" in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["explain"],
        ["explain", "a/b/c"],
        ["status", "-n", "x", "-A"],
        ["tiers", "-n", "x"],
        ["doctor", "--wait", "long"],
        ["status", "-o", "wide"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_usage(memplace: Memplace, args: list[str]) -> None:
    ran = memplace(*args)
    assert (ran.code, ran.out) == (2, "")


def test_options_go_before_the_command_and_after_it(site: Site, memplace: Memplace) -> None:
    site.place("well")
    before, after = (
        memplace("-n", site.namespace, "-o", "json", "status"),
        memplace("status", "-n", site.namespace, "-o", "json"),
    )
    assert before.json() == after.json()
    assert [each["name"] for each in before.json()["placements"]] == ["well"]


def test_no_kubeconfig(memplace: Memplace, tmp_path: Path) -> None:
    ran = memplace("status", kubeconfig=tmp_path / "none")
    assert (ran.code, ran.out) == (5, "")
    assert "the kubeconfig can't be used" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_context_that_is_not_there(memplace: Memplace) -> None:
    ran = memplace("status", "--context", "other")
    assert ran.code == 3
    assert "the kubeconfig has no context 'other'; it has: it" in ran.err


def test_no_cluster(api: ApiServer, tmp_path: Path) -> None:
    port = free_port()
    path = changed(api, tmp_path, server=f"https://127.0.0.1:{port}")
    # As a process: libraries write to its standard error, too.
    command = [str(SCRIPTS / "memplace"), "status", "--kubeconfig", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (5, "")
    assert f"no answer from the API server at 127.0.0.1:{port}: " in done.stderr
    assert "refused" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_certificate_that_nobody_vouches_for(
    api: ApiServer, memplace: Memplace, tmp_path: Path
) -> None:
    path = changed(
        api, tmp_path, **{"certificate-authority": str(certificate(tmp_path, "other", "/CN=o")[0])}
    )
    ran = memplace("status", kubeconfig=path)
    assert ran.code == 5
    assert "certificate verify failed" in ran.err.lower()


def test_credentials_that_are_not_accepted(memplace: Memplace) -> None:
    ran = memplace("status", user="stranger")
    assert (ran.code, ran.out) == (4, "")
    assert "Your credentials are not accepted" in ran.err


def test_a_cluster_without_memplace(
    memplace: Memplace, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    ca, key = certificate(tmp_path, "ca", "/CN=ca")
    with ApiServer(tmp_path_factory.mktemp("empty"), f"--client-ca-file={ca}").running() as empty:
        path = with_certificate(empty, tmp_path, ca, key)
        ran = memplace("status", kubeconfig=path)
        assert (ran.code, ran.out) == (3, ""), ran.err
        assert "this cluster has no memplace" in ran.err
        assert "helm install" in ran.err
        ran = memplace("doctor", kubeconfig=path)
        assert ran.code == 1
        kinds = "clustermemoryplacements, memoryplacements, memorytiers, nodememories"
        assert f"is served without {kinds}" in ran.flat


def with_certificate(api: ApiServer, folder: Path, ca: Path, ca_key: Path) -> Path:
    """Return a kubeconfig of an administrator who has a certificate, as kubeadm makes it."""
    mine, key = certificate(folder, "admin", "/O=system:masters/CN=admin", signer=(ca, ca_key))
    config = yaml.safe_load(api.kubeconfig("admin").read_text())
    config["users"][0]["user"] = {"client-certificate": str(mine), "client-key": str(key)}
    path = folder / "certified"
    path.write_text(yaml.safe_dump(config))
    return path


def changed(api: ApiServer, folder: Path, **cluster: str) -> Path:
    config = yaml.safe_load(api.kubeconfig("admin").read_text())
    config["clusters"][0]["cluster"] |= cluster
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def certificate(
    folder: Path, name: str, subject: str, *, signer: tuple[Path, Path] | None = None
) -> tuple[Path, Path]:
    """Make a certificate and its key; signed by itself where no signer is given."""
    path, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", subject, "-keyout", str(key), "-out", str(path)]
    if signer:
        command += ["-CA", str(signer[0]), "-CAkey", str(signer[1])]
    subprocess.run(command, check=True, capture_output=True)
    return path, key
