# SPDX-License-Identifier: Apache-2.0
"""A certificate authority, and what kubelets make of a Secret with its certificates."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Pods are scraped by address: Prometheus is told which name to ask for.
NAME = "memplace-metrics"

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Makes certificates below a folder, with openssl."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._own = self._make(name, "keyUsage=critical,keyCertSign,cRLSign")

    @property
    def certificate(self) -> Path:
        """Its own certificate."""
        return self._own.certificate

    def server(self, name: str) -> Issued:
        """Return a certificate for a server called NAME."""
        return self._issue(name, "serverAuth")

    def client(self, name: str) -> Issued:
        """Return a certificate for a client."""
        return self._issue(name, "clientAuth")

    def _issue(self, name: str, usage: str) -> Issued:
        return self._make(
            name,
            "basicConstraints=critical,CA:FALSE",
            f"subjectAltName=DNS:{NAME}",
            f"extendedKeyUsage={usage}",
            by=("-CA", str(self._own.certificate), "-CAkey", str(self._own.key)),
        )

    def _make(self, name: str, *extensions: str, by: tuple[str, ...] = ()) -> Issued:
        made = Issued(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        command = ["openssl", "req", "-x509", *_KEY, "-subj", f"/CN={name}", *by]
        command += ["-keyout", str(made.key), "-out", str(made.certificate)]
        command += [word for each in extensions for word in ("-addext", each)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return made


def mount(folder: Path, server: Issued, clients: Authority | None) -> None:
    """Have files in a folder as a kubelet has those of a volume: all change at once."""
    folder.mkdir(exist_ok=True)
    versions = len(list(folder.glob("..20*")))
    version = folder / f"..20{versions}"
    version.mkdir()
    shutil.copy(server.certificate, version / "tls.crt")
    shutil.copy(server.key, version / "tls.key")
    if clients is not None:
        shutil.copy(clients.certificate, version / "clients.crt")
    new = folder / "..data_tmp"
    new.symlink_to(version.name)
    new.rename(folder / "..data")
    for file in version.iterdir():
        link = folder / file.name
        if not link.is_symlink():
            link.symlink_to(f"..data/{file.name}")


def reader(trusts: Authority, client: Issued | None = None) -> ssl.SSLContext:
    """Return a client's side of TLS."""
    context = ssl.create_default_context(cafile=str(trusts.certificate))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


def scrape(port: int, trusts: Authority, client: Issued | None = None) -> tuple[int, str, str]:
    """Read /metrics as Prometheus does.

    Returns:
        Status, body, and the name in the server's certificate.

    Raises:
        OSError: The handshake failed, on either side.
    """
    context = reader(trusts, client)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as secure,
    ):
        secure.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = http.client.HTTPResponse(secure)
        answer.begin()
        body = answer.read().decode()
        return answer.status, body, _name_in(secure.getpeercert(binary_form=True))


def _name_in(certificate: bytes | None) -> str:
    assert certificate is not None
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "multiline"]
    said = subprocess.run(command, input=certificate, check=True, capture_output=True, timeout=60)
    return said.stdout.decode().rpartition("= ")[2].strip()
