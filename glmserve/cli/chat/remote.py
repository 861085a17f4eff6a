"""A chat with a server over HTTP."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import msgspec

from glmserve.embedded.results import ChatChunk
from glmserve.errors import GlmserveError, InvalidRequestError

_CONNECT_SECONDS = 10.0
_LONGEST_ERROR = 500
"""Characters of an answer that is no JSON, in an error message."""


class RemoteModel:
    """A model behind an API like OpenAI's.

    Args:
        url: such as http://localhost:8000; the paths of the API begin with /v1, or with the path
            that the URL has.
        key: the API key; None: none is sent.
        model: its name; None: the first that the server names.

    Raises:
        GlmserveError: the server cannot be reached, or names no model.
    """

    def __init__(self, url: str, key: str | None, model: str | None) -> None:
        parts = urlsplit(url)
        self._is_tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        path = parts.path.rstrip("/")
        self._root = path if path.endswith("/v1") else f"{path}/v1"
        self._url = url
        self._headers = {"Content-Type": "application/json", "Accept": "*/*"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self.model = model or self._first_model()

    @property
    def description(self) -> str:
        """What a user is talking to."""
        return f"{self.model} at {self._url}"

    def stream(self, request: dict[str, Any]) -> Iterator[ChatChunk]:
        """What is new in an answer, as it comes. Leaving the loop ends the connection.

        Raises:
            GlmserveError: the server refuses, fails or is lost.
        """
        options = {"model": self.model, "stream": True, "stream_options": {"include_usage": True}}
        connection, response = self._send("POST", "/chat/completions", {**request, **options})
        with closing(connection):
            if response.status != 200:
                raise _error(response.status, response.read())
            try:
                yield from _chunks(response)
            except (OSError, http.client.HTTPException) as error:
                raise GlmserveError(f"{self._url}: the connection is lost: {error}") from None

    def close(self) -> None:
        """Nothing stays open between two answers."""

    def _first_model(self) -> str:
        connection, response = self._send("GET", "/models", None)
        with closing(connection):
            body = response.read()
        if response.status != 200:
            raise _error(response.status, body)
        try:
            return str(json.loads(body)["data"][0]["id"])
        except (ValueError, LookupError, TypeError):
            raise GlmserveError(f"{self._url} names no model; give --model-name") from None

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(None)  # an answer may take its time
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, self._root + path, data, self._headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise GlmserveError(f"{self._url} cannot be reached: {error}") from None
        except BaseException:
            connection.close()
            raise

    def _connection(self) -> http.client.HTTPConnection:
        if not self._is_tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=_CONNECT_SECONDS)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=_CONNECT_SECONDS, context=context
        )


def _chunks(response: http.client.HTTPResponse) -> Iterator[ChatChunk]:
    for line in response:
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        if b'"error"' in data and "error" in json.loads(data):
            raise _error(500, data)
        try:
            yield msgspec.json.decode(data, type=ChatChunk)
        except msgspec.DecodeError as error:
            raise GlmserveError(f"the server's answer is no chat completion: {error}") from None
    raise GlmserveError("the server ended the answer before its end")


def _error(status: int, body: bytes) -> GlmserveError:
    """The error that a server answers with."""
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        message = f"HTTP {status}: {body[:_LONGEST_ERROR].decode(errors='replace')}"
    return InvalidRequestError(message) if 400 <= status < 500 else GlmserveError(message)
