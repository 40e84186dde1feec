# SPDX-License-Identifier: Apache-2.0
"""Certificates and kubeconfigs of the lab's cluster, made by openssl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base.steps import run

_DAYS = "3650"


@dataclass(frozen=True, slots=True)
class Pki:
    """A certificate authority in a directory, and what it issued."""

    directory: Path
    server: str  # https://HOST:PORT of the API server, for the kubeconfigs

    def path(self, name: str) -> Path:
        """Return the path of a file of this PKI."""
        return self.directory / name

    def create_authority(self) -> None:
        """Make the CA and the key pair that signs service account tokens."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._key("ca")
        # Without key usage, as many clusters have it: what talks to the API server has to cope.
        run(
            "openssl",
            "req",
            "-x509",
            "-new",
            "-key",
            self.path("ca.key"),
            "-days",
            _DAYS,
            "-subj",
            "/CN=memplace-lab",
            "-out",
            self.path("ca.crt"),
        )
        run("openssl", "genrsa", "-out", self.path("sa.key"), "2048")
        run("openssl", "rsa", "-in", self.path("sa.key"), "-pubout", "-out", self.path("sa.pub"))

    def issue(self, name: str, user: str, *, group: str = "", names: Sequence[str] = ()) -> None:
        """Issue ``name.crt`` and ``name.key`` for a user, and a server if there are ``names``.

        ``names`` are subject alternative names as openssl writes them: ``IP:10.0.0.1``, ``DNS:x``.
        """
        self._key(name)
        subject = f"/O={group}/CN={user}" if group else f"/CN={user}"
        request, extensions = self.path(f"{name}.csr"), self.path(f"{name}.ext")
        usage = (
            "extendedKeyUsage=clientAuth,serverAuth\nkeyUsage=digitalSignature,keyEncipherment\n"
        )
        extensions.write_text(usage + (f"subjectAltName={','.join(names)}\n" if names else ""))
        run(
            "openssl",
            "req",
            "-new",
            "-key",
            self.path(f"{name}.key"),
            "-subj",
            subject,
            "-out",
            request,
        )
        run(
            "openssl",
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            self.path("ca.crt"),
            "-CAkey",
            self.path("ca.key"),
            "-CAcreateserial",
            "-days",
            _DAYS,
            "-extfile",
            extensions,
            "-out",
            self.path(f"{name}.crt"),
        )
        request.unlink()
        extensions.unlink()

    def kubeconfig(self, name: str, *, inline: bool = False) -> Path:
        """Write ``name.kubeconfig`` for the certificate ``name``; JSON is YAML.

        Args:
            name: The certificate's name.
            inline: Put the certificates into the file, so that it stands alone.
        """
        base = self.directory
        if inline:
            cluster = {"certificate-authority-data": self._base64("ca.crt")}
            user = {
                "client-certificate-data": self._base64(f"{name}.crt"),
                "client-key-data": self._base64(f"{name}.key"),
            }
        else:
            cluster = {"certificate-authority": f"{base}/ca.crt"}
            user = {"client-certificate": f"{base}/{name}.crt", "client-key": f"{base}/{name}.key"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": self.server, **cluster}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name}}],
        }
        path = self.path(f"{name}.kubeconfig")
        path.write_text(json.dumps(config, indent=1))
        path.chmod(0o600)
        return path

    def _key(self, name: str) -> None:
        run(
            "openssl",
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            self.path(f"{name}.key"),
        )

    def _base64(self, name: str) -> str:
        return run("openssl", "base64", "-A", "-in", self.path(name))
