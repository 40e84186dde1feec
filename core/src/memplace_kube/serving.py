# SPDX-License-Identifier: Apache-2.0
"""TLS of a port that serves metrics, with a certificate that is renewed while it serves.

Whoever may read is told by a certificate of the client, not by a token: to have the API server
look at tokens takes rights that nothing else here needs (docs/adr/0040).
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memplace.environment import port
from memplace.errors import ValidationError

log = logging.getLogger(__name__)

VARIABLES = ("MEMPLACE_METRICS_TLS", "MEMPLACE_METRICS_CLIENT_CA", "MEMPLACE_METRICS_PORT")
_FOLDER, _CLIENTS, _PORT = VARIABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurePort:
    """Where metrics are served by TLS, and with which files.

    Attributes:
        port: The port.
        certificate: Certificate chain in PEM.
        key: Its private key in PEM, without a passphrase.
        clients: Certificates of authorities: a client has to have a certificate of one of them.
            None: everybody may read.
    """

    port: int
    certificate: Path
    key: Path
    clients: Path | None = None


def secure_port(env: Mapping[str, str]) -> SecurePort | None:
    """Return what the environment says of TLS, or None if metrics are served without.

    Raises:
        ValidationError: A variable makes no sense; names it.
    """
    folder, clients = env.get(_FOLDER, ""), env.get(_CLIENTS, "")
    number = port(_PORT, env.get(_PORT) or "8443")
    for name, text in ((_FOLDER, folder), (_CLIENTS, clients)):
        if text and not text.startswith("/"):
            raise ValidationError(name, f"write a path that begins with /, not {text!r}")
    if clients and not folder:
        raise ValidationError(_CLIENTS, f"set {_FOLDER}, too: without TLS nobody is asked")
    if not folder:
        return None
    return SecurePort(
        port=number,
        certificate=Path(folder, "tls.crt"),
        key=Path(folder, "tls.key"),
        clients=Path(clients) if clients else None,
    )


class ServerTls:
    """The server's side of TLS.

    Files that can't be used are logged and tried again with each connection. Until they can,
    those before are used; without any, connections are refused. Nothing else ends for it.

    Attributes:
        context: For all connections of a server: each is made with the files as they are then.
    """

    def __init__(self, files: SecurePort) -> None:
        """Take where the files are, and read them."""
        self._files = files
        self._lock = threading.Lock()
        self._used: tuple[object, ...] = ()
        self._complained_of: tuple[object, ...] = ()
        self._newest: ssl.SSLContext | None = None
        self.context = self._empty()
        # Asked for each connection, also when the client names no server.
        self.context.sni_callback = self._choose
        self._look()

    def wrap(self, connection: socket.socket) -> socket.socket:
        """Return a connection that shakes hands with the first read."""
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _choose(
        self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext
    ) -> int | None:
        newest = self._look()
        if newest is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = newest
        return None

    def _look(self) -> ssl.SSLContext | None:
        with self._lock:
            found = self._versions()
            if found != self._used:
                try:
                    self._newest = self._read()
                except (OSError, ValueError) as err:
                    self._complain(found, err)
                else:
                    self._used = found
                    log.info("metrics are served with the certificate %s", self._files.certificate)
            return self._newest

    def _complain(self, found: tuple[object, ...], err: Exception) -> None:
        # Once for each state of the files: clients ask again and again.
        if found != self._complained_of:
            self._complained_of = found
            then = "the former one is used" if self._newest else "nobody can read metrics"
            log.error("no certificate from %s: %s; %s", self._files.certificate.parent, err, then)

    def _versions(self) -> tuple[object, ...]:
        files = self._files
        return tuple(map(_version, (files.certificate, files.key, files.clients)))

    def _read(self) -> ssl.SSLContext:
        # All anew: a context can't be made to forget an authority.
        context, files = self._empty(), self._files
        # Or OpenSSL would ask for the passphrase at the terminal.
        context.load_cert_chain(files.certificate, files.key, password="")
        if files.clients is not None:
            context.load_verify_locations(files.clients)
        return context

    def _empty(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # Who resumes a session shows no certificate: it would outlive its authority.
        context.num_tickets = 0
        if self._files.clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _version(path: Path | None) -> object:
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return found and (found.st_ino, found.st_mtime_ns, found.st_size)
