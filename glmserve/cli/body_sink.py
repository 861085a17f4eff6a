"""Writes parts of a response's body without the detour over the application's `send`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from glmserve.cli.write_pass import WritePass

if TYPE_CHECKING:
    from uvicorn.protocols.http.flow_control import FlowControl


class BodySink:
    """An EventSink for the body of a response that has begun, has no Content-Length, and is not
    complete.

    It refers to nothing of the request, whose scope refers to it: without a cycle of references,
    both are freed as soon as they are not needed.

    Args:
        flow: says whether the transport's buffer is full.
        is_chunked: False for HTTP/1.0, where the body ends with the connection.
        write_pass: of all connections.
    """

    __slots__ = ("_flow", "_is_chunked", "_transport", "call_soon")

    def __init__(
        self,
        transport: asyncio.Transport,
        flow: FlowControl,
        write_pass: WritePass,
        *,
        is_chunked: bool,
    ) -> None:
        self.call_soon = write_pass.add
        self._transport = transport
        self._flow = flow
        self._is_chunked = is_chunked

    @property
    def takes_more(self) -> bool:
        """Whether the connection is open and its buffer not full."""
        return not (self._flow.write_paused or self._transport.is_closing())

    def write(self, data: bytes) -> None:
        """Write bytes of the body, at least one."""
        if self._is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._transport.write(data)
