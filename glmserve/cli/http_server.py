"""uvicorn with glmserve's settings and connection limits."""

from __future__ import annotations

import asyncio
import socket
import ssl

import uvicorn
from starlette.types import ASGIApp

from glmserve.api.http.body import BodyMemory
from glmserve.cli.http_protocol import HttpProtocol
from glmserve.cli.websocket_protocol import WebSocketProtocol
from glmserve.cli.write_pass import WritePass
from glmserve.config import ConnectionConfig

_MAX_UNSENT_BYTES = 128 * 2**10
"""Bytes of one connection that the kernel holds before it sends them."""


class HttpServer(uvicorn.Server):
    """Serves an application over connections with limits.

    Args:
        tls: None serves plain HTTP.
        memory: for the messages of WebSockets.
        grace_period: seconds for running requests after the signal to end.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: ConnectionConfig,
        tls: ssl.SSLContext | None,
        memory: BodyMemory,
        grace_period: int,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",  # HttpProtocol decides
            ws_max_size=memory.largest_body,
            ws_per_message_deflate=False,  # small messages could become large ones
            lifespan="off",
            log_config=None,  # uvicorn's would close the handlers of all other loggers
            log_level="error",  # lower levels log a line for each invalid request
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=grace_period,
        )
        super().__init__(config)
        self._limits = limits
        self._tls = tls
        self._memory = memory
        self._write_pass = WritePass()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Like uvicorn's, but the header time-out also limits TLS handshakes."""
        self.servers = [await self._listen(listener) for listener in sockets or ()]
        self.started = True

    async def _listen(self, listener: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        timeout = (self._limits.header_timeout or None) if self._tls else None
        backlog = self.config.backlog
        if listener.family == socket.AF_UNIX:
            return await loop.create_unix_server(
                self._new_connection,
                sock=listener,
                ssl=self._tls,
                ssl_handshake_timeout=timeout,
                backlog=backlog,
            )
        _limit_unsent(listener)
        return await loop.create_server(
            self._new_connection,
            sock=listener,
            ssl=self._tls,
            ssl_handshake_timeout=timeout,
            backlog=backlog,
        )

    def _new_connection(self) -> HttpProtocol:
        return HttpProtocol(
            self._limits,
            self._new_websocket,
            self._write_pass,
            config=self.config,
            server_state=self.server_state,
            app_state={},
        )

    def _new_websocket(self) -> WebSocketProtocol:
        return WebSocketProtocol(
            self._limits, self._memory, config=self.config, server_state=self.server_state
        )


def _limit_unsent(listener: socket.socket) -> None:
    """Limit the unsent bytes that the kernel buffers. Accepted connections inherit the limit.

    By default Linux buffers megabytes, and accepts more only after a third of them is sent. Then a
    slow reader would look like one that has stopped.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MAX_UNSENT_BYTES)
