"""A small hub on the loopback: what huggingface_hub, and our own client of ModelScope, ask for."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = 10_000
"""Bytes from which on a file is in Git LFS."""


@dataclass
class Hub:
    """The content and the behaviour of the hub.

    Attributes:
        models: files of each model, by OWNER/NAME.
        revisions: branches, tags and commits that all models have.
        token: needed for every request, if there is one.
        moved: old names of models.
        breaks: how often the connection breaks within a large file.
        damages: a byte of each large file is wrong.
        status: of all answers about files, if it is not 0.
        elsewhere: address of the hub that ModelScope's large files are sent from.
        requests: method and path of each request, and its headers in small letters.
    """

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main", "master", "v1.0", "refs/pr/1", COMMIT)
    token: str | None = None
    moved: dict[str, str] = field(default_factory=dict)
    breaks: int = 0
    damages: bool = False
    status: int = 0
    elsewhere: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def fetched(self) -> list[str]:
        """Paths of the files that were read."""
        of_hf = (re.search(r"/resolve/[^/]+/(.*)", p) for m, p, _ in self.requests if m == "GET")
        of_ms = (re.search(r"FilePath=([^&]*)", p) for m, p, _ in self.requests if m == "GET")
        return [unquote(found[1]) for found in (*of_hf, *of_ms) if found]


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Serve it; its `url` is set."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def _handle(self) -> None:
        hub = self.hub
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append((self.command, self.path, headers))
        if hub.token and hub.token not in headers.get("authorization", ""):
            self._fail(401, "GatedRepo", "Access to this model is restricted")
            return
        if hub.status and ("/resolve/" in self.path or "FilePath=" in self.path):
            self._fail(hub.status, "", "no")
            return
        path = unquote(urlsplit(self.path).path)
        query = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if match := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?", path):
            self._modelscope(match[1], query, is_index=bool(match[2]))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
            self._tree(match[1], match[2])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", path):
            self._file(match[1], match[2], match[3])
        else:
            self._fail(404, "EntryNotFound", path)

    def _model(self, name: str, revision: str) -> dict[str, bytes] | None:
        """The files; None: an answer was sent."""
        hub = self.hub
        if name in hub.moved:
            self._redirect(self.path.replace(name, hub.moved[name]))
        elif name not in hub.models:
            self._fail(404, "RepoNotFound", "Repository not found")
        elif revision not in hub.revisions:
            self._fail(404, "RevisionNotFound", "Invalid rev id")
        else:
            return hub.models[name]
        return None

    def _info(self, name: str, revision: str) -> None:
        if (files := self._model(name, revision)) is None:
            return
        siblings = [{"rfilename": path, **_about(data)} for path, data in files.items()]
        self._send_json({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings})

    def _tree(self, name: str, revision: str) -> None:
        if (files := self._model(name, revision)) is not None:
            self._send_json(
                [{"type": "file", "path": path, **_in_tree(data)} for path, data in files.items()]
            )

    def _file(self, name: str, revision: str, path: str) -> None:
        if (files := self._model(name, revision)) is None:
            return
        if path not in files:
            self._fail(404, "EntryNotFound", "Entry not found")
            return
        etag = f'"{hashlib.sha256(files[path]).hexdigest()}"'
        self._send_bytes(files[path], {"ETag": etag, "X-Repo-Commit": COMMIT})

    def _modelscope(self, name: str, query: dict[str, str], *, is_index: bool) -> None:
        files = self.hub.models.get(name)
        if files is None or query.get("Revision") not in self.hub.revisions:
            self._fail(404, "", "not found")
        elif is_index:
            listed = [
                {
                    "Path": path,
                    "Name": path.rpartition("/")[2],
                    "Type": "blob",
                    "Size": len(data),
                    "Sha256": hashlib.sha256(data).hexdigest(),
                }
                for path, data in files.items()
            ]
            folder = {"Path": "configs", "Name": "configs", "Type": "tree", "Size": 0}
            self._send_json({"Code": 200, "Data": {"Files": [folder, *listed]}, "Success": True})
        elif query["FilePath"] not in files:
            self._fail(404, "", "not found")
        elif self.hub.elsewhere and len(files[query["FilePath"]]) >= _LARGE:
            self._redirect(self.hub.elsewhere + self.path)
        else:
            self._send_bytes(files[query["FilePath"]], {})

    def _redirect(self, url: str) -> None:
        self.send_response(307)
        self.send_header("Location", url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_bytes(self, data: bytes, headers: dict[str, str]) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if self.hub.damages and len(data) >= _LARGE:
            data = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        start = int(match[1]) if match else 0
        end = int(match[2]) + 1 if match and match[2] else len(data)
        part = data[start:end]
        self.send_response(206 if match else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if len(data) >= _LARGE and self.hub.breaks:
            self.hub.breaks -= 1
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(part)

    def _send_json(self, data: Any) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _fail(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _about(data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    lfs = {"sha256": digest, "size": len(data), "pointerSize": 134}
    return {
        "size": len(data),
        "blobId": digest[:40],
        **({"lfs": lfs} if len(data) >= _LARGE else {}),
    }


def _in_tree(data: bytes) -> dict[str, Any]:
    about = _about(data)
    lfs = about.get("lfs")
    more = {"lfs": {"oid": lfs["sha256"], **lfs}} if lfs else {}
    return {"size": about["size"], "oid": about["blobId"], **more}
