"""uvicorn as it is set up here."""

from __future__ import annotations

import asyncio
import socket
import ssl

import uvicorn
from starlette.types import ASGIApp

from glmserve.cli.http_protocol import HttpProtocol
from glmserve.config import ConnectionConfig

_MOST_UNSENT = 128 * 2**10
"""Bytes of one connection that the kernel keeps besides those that are on their way."""


class HttpServer(uvicorn.Server):
    """Serves an application to connections that keep the limits.

    Args:
        tls: None serves plain HTTP.
        last_call: seconds that requests get once the server is told to end.
    """

    def __init__(
        self, app: ASGIApp, limits: ConnectionConfig, tls: ssl.SSLContext | None, last_call: int
    ) -> None:
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            log_level="error",  # it would write a line for whatever is not HTTP
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=last_call,
        )
        super().__init__(config)
        self._limits = limits
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but a TLS handshake has to come to its end as a request's head has."""
        timeout = (self._limits.header_timeout or None) if self._tls else None
        for listener in sockets or ():
            _bound_unsent(listener)
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                self._new_connection,
                sock=listener,
                ssl=self._tls,
                ssl_handshake_timeout=timeout,
                backlog=self.config.backlog,
            )
            for listener in sockets or ()
        ]
        self.started = True

    def _new_connection(self) -> HttpProtocol:
        return HttpProtocol(
            self._limits, config=self.config, server_state=self.server_state, app_state={}
        )


def _bound_unsent(listener: socket.socket) -> None:
    """Keep little in the kernel for readers that are slow, and see early that they take something.

    Connections inherit it. Otherwise Linux takes megabytes, and takes no more before a third of
    them is gone, so that a slow reader would look like one that has stopped.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MOST_UNSENT)
