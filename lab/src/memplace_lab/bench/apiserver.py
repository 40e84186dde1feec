# SPDX-License-Identifier: Apache-2.0
"""The part of an API server that an agent of one node talks to: lists, watches, its report.

No authorization, no schema, no history: a watch sends what changes from its start on. A real
kube-apiserver would cost the emulated machine more than what is measured there.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

GROUP = "/apis/memplace.dev/v1alpha1"
PLACEMENTS, TIERS = f"{GROUP}/memoryplacements", f"{GROUP}/memorytiers"
REPORTS, PODS = f"{GROUP}/nodememories", "/api/v1/pods"

Object = dict[str, Any]
_Event = tuple[int, str, str, Object]


class Store:
    """Collections by path, objects by name, and every change since the start."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[str, dict[str, Object]] = {}
        self._events: list[_Event] = []
        self._version = 1

    def put(self, collection: str, obj: Object) -> Object:
        """Create or replace an object; return it with its uid and version."""
        with self._changed:
            kept = self._objects.setdefault(collection, {})
            name = obj["metadata"]["name"]
            type_ = "MODIFIED" if name in kept else "ADDED"
            kept[name] = self._stamped(obj, kept.get(name))
            self._tell(type_, collection, kept[name])
            return kept[name]

    def delete(self, collection: str, name: str) -> None:
        """Remove an object that is there."""
        with self._changed:
            gone = self._objects[collection].pop(name)
            self._version += 1
            self._tell("DELETED", collection, gone)

    def discard(self, collection: str, name: str) -> None:
        """Remove an object if it is there."""
        if self.get(collection, name) is not None:
            self.delete(collection, name)

    def get(self, collection: str, name: str) -> Object | None:
        """Return an object, None if there is none."""
        with self._changed:
            return self._objects.get(collection, {}).get(name)

    def list(self, collection: str) -> Object:
        """Return a list as the API server answers it."""
        collection, namespace = _within(collection)
        with self._changed:
            there = self._objects.get(collection, {}).values()
            items = [obj for obj in there if _is_in(namespace, obj)]
            return {"metadata": {"resourceVersion": str(self._version)}, "items": items}

    def watch(self, collection: str, since: int, seconds: float) -> Iterator[Object]:
        """Yield events of a collection after a version, until so many seconds are over."""
        collection, namespace = _within(collection)
        end, seen = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            with self._changed:
                if seen == len(self._events):
                    self._changed.wait(left)
                fresh, seen = self._events[seen:], len(self._events)
            for version, type_, where, obj in fresh:
                if where == collection and version > since and _is_in(namespace, obj):
                    yield {"type": type_, "object": obj}

    def _stamped(self, obj: Object, before: Object | None) -> Object:
        self._version += 1
        own = {
            "uid": before["metadata"]["uid"] if before else f"uid-{self._version}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": self._version,
        }
        meta = {**own, **obj["metadata"], "resourceVersion": str(self._version)}
        return {**obj, "metadata": meta}

    def _tell(self, type_: str, collection: str, obj: Object) -> None:
        self._events.append((self._version, type_, collection, obj))
        self._changed.notify_all()


def _within(path: str) -> tuple[str, str]:
    """Return the collection, and the namespace that is asked for; only placements have some."""
    group, _, inside = path.partition("/namespaces/")
    namespace, _, plural = inside.partition("/")
    return (PLACEMENTS, namespace) if f"{group}/{plural}" == PLACEMENTS else (path, "")


def _is_in(namespace: str, obj: Object) -> bool:
    return not namespace or obj["metadata"].get("namespace") == namespace


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if "watch" in query and query["watch"] in ("true", "1"):
            self._watch(url.path, query)
        else:
            self._answer(200, self.store.list(url.path))

    def do_POST(self) -> None:
        self._answer(201, self.store.put(urlsplit(self.path).path, self._body()))

    def do_PATCH(self) -> None:
        # A merge patch of a whole spec or status, which is what agents send.
        path = urlsplit(self.path).path.removesuffix("/status")
        collection, _, name = path.rpartition("/")
        body, known = self._body(), self.store.get(collection, name)
        if known is None:
            self._answer(404, {"kind": "Status", "code": 404, "message": "not found"})
            return
        body.pop("metadata", None)
        self._answer(200, self.store.put(collection, {**known, **body}))

    def _body(self) -> Object:
        body: Object = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return body

    def _answer(self, status: int, obj: Object) -> None:
        text = json.dumps(obj).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _watch(self, collection: str, query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        since = int(query.get("resourceVersion") or 0)
        try:
            for event in self.store.watch(
                collection, since, float(query.get("timeoutSeconds", 240))
            ):
                self._chunk(json.dumps(event).encode() + b"\n")
            self._chunk(b"")
        except OSError:
            self.close_connection = True  # the agent ended

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing: the console is for results."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: an agent that ends leaves its connections as they are."""


def serve(store: Store, certificate: Path, key: Path) -> int:
    """Serve a store over TLS on loopback until the process ends; return the port."""
    handler = type("Handler", (_Handler,), {"store": store})
    server = _Server(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port
