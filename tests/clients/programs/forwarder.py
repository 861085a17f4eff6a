"""Stands between a client and the server, and can add fields to what the client asks.

The tiny model seldom calls a tool by itself, and agents do not let a caller require a call.
"""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host", "accept-encoding"}


class Forwarder:
    """`with Forwarder(server_url) as forwarder:`; the client is told `forwarder.url`."""

    def __init__(self, server: str) -> None:
        """`server` is a URL without a path."""
        self.bodies: list[dict[str, Any]] = []
        """What the client has sent, in order."""
        self.added_once: dict[str, Any] = {}
        """Fields that the next request gets."""
        self._address = urlsplit(server).netloc
        forwarder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                forwarder._forward(self)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                """Standard error is for the program's own failures."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Forwarder:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _forward(self, handler: BaseHTTPRequestHandler) -> None:
        sent = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if sent:
            body = json.loads(sent)
            self.bodies.append(body)
            sent = json.dumps(body | self.added_once).encode()
            self.added_once = {}
        upstream = http.client.HTTPConnection(self._address)
        upstream.request(handler.command, handler.path, sent, _end_to_end(handler.headers))
        answer = upstream.getresponse()
        handler.send_response(answer.status)
        for name, value in _end_to_end(answer.headers).items():
            handler.send_header(name, value)
        handler.end_headers()  # HTTP/1.0: the body ends with the connection
        while part := answer.read1():
            handler.wfile.write(part)
            handler.wfile.flush()
        upstream.close()


def _end_to_end(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
