"""A connection between leader and member, message by message."""

from __future__ import annotations

import asyncio

import msgspec

from glmserve.contract.member import MAX_FRAME, MAX_GREETING, AnyMessage, decode_message
from glmserve.contract.wire import HEADER_SIZE, body_size, encode_frame


class LinkError(Exception):
    """The connection is of no use; the text says how it ended, as a predicate for "it"."""


class Link:
    """One end of a TCP connection.

    Args:
        reader: receives.
        writer: sends.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_received = 0
        """Number of messages."""
        self._reader = reader
        self._writer = writer
        self._limit = MAX_GREETING

    @property
    def peer(self) -> str:
        """The other end's address."""
        name = self._writer.get_extra_info("peername")
        # An IPv4 address, as a socket for both versions shows it.
        return str(name[0]).removeprefix("::ffff:") if name else "?"

    def trust(self) -> None:
        """Accept long messages from now on."""
        self._limit = MAX_FRAME

    def send(self, message: AnyMessage) -> None:
        """Send a message, unless the connection is closed."""
        if not self._writer.is_closing():
            self._writer.write(encode_frame(message))

    async def receive(self) -> AnyMessage:
        """Wait for the next message.

        Raises:
            LinkError: the connection ended, or brought something else.
        """
        try:
            size = body_size(await self._reader.readexactly(HEADER_SIZE))
            if size > self._limit:
                raise LinkError("sent what is no message of a group")
            body = await self._reader.readexactly(size)
            message = decode_message(body)
        except (msgspec.MsgspecError, RecursionError):
            raise LinkError("sent what is no message of a group") from None
        except asyncio.IncompleteReadError:
            raise LinkError("closed the connection") from None
        except OSError as error:
            raise LinkError(f"is cut off ({error.strerror or error})") from None
        self.num_received += 1
        return message

    def close(self) -> None:
        """Close the connection. What was sent last may still arrive."""
        self._writer.close()

    def abort(self) -> None:
        """Close the connection at once. `receive` raises."""
        self._writer.transport.abort()
