"""Writes parts of a response's body without the detour over the application's `send`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmserve.cli.write_pass import WritePass

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class BodySink:
    """An EventSink for the body of a response that has begun and is not complete.

    Args:
        cycle: uvicorn's request with its response.
        write_pass: of all connections.
    """

    __slots__ = ("_cycle", "_flow", "_transport", "call_soon")

    def __init__(self, cycle: RequestResponseCycle, write_pass: WritePass) -> None:
        self.call_soon = write_pass.add
        self._cycle = cycle
        self._flow = cycle.flow
        self._transport = cycle.transport

    @property
    def takes_more(self) -> bool:
        """Whether the connection is open and its buffer not full."""
        return not (self._flow.write_paused or self._cycle.disconnected)

    def write(self, data: bytes) -> None:
        """Write bytes of the body, at least one."""
        if self._cycle.chunked_encoding:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._transport.write(data)
