"""Messages between an executor and its worker process, and how they are framed.

A frame is a 4-byte little-endian length and one msgpack message. The executor sends one
RunnerConfig and then ExecutorMessages; everything the worker sends is a WorkerMessage.
"""

from __future__ import annotations

import socket
import struct

import msgspec

from glmserve.config import LoadProgress
from glmserve.contract.step import RunnerInfo, StepInput, StepOutput, TokenMasks

_HEADER = struct.Struct("<I")
HEADER_SIZE = _HEADER.size

_encoder = msgspec.msgpack.Encoder()


class Loading(msgspec.Struct, frozen=True, array_like=True, tag="loading"):
    """The runner is being built."""

    progress: LoadProgress


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The runner is up and waits for steps."""

    info: RunnerInfo


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """The runner could not be built; the worker exits."""

    message: str
    exit_code: int


ExecutorMessage = StepInput | TokenMasks
"""A StepInput with constrained tokens is followed by its TokenMasks, or by the next StepInput and
then its TokenMasks."""

decode_executor_message = msgspec.msgpack.Decoder(ExecutorMessage).decode

WorkerMessage = Loading | Ready | Failed | StepOutput

decode_worker_message = msgspec.msgpack.Decoder(WorkerMessage).decode


def encode_frame(message: msgspec.Struct) -> bytes:
    """One message with its length in front."""
    body = _encoder.encode(message)
    return _HEADER.pack(len(body)) + body


def body_size(header: bytes | bytearray | memoryview) -> int:
    """How many bytes follow a header of HEADER_SIZE bytes."""
    size: int = _HEADER.unpack_from(header)[0]
    return size


def receive_frame(connection: socket.socket) -> bytearray | None:
    """Wait for the next frame's body; None when the other end is closed."""
    header = _receive_exactly(connection, HEADER_SIZE)
    return None if header is None else _receive_exactly(connection, body_size(header))


def _receive_exactly(connection: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        received = connection.recv_into(view)
        if not received:
            return None
        view = view[received:]
    return data
