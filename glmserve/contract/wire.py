"""Messages between an executor and its worker process, and how they are framed.

A frame is a 4-byte little-endian length and one msgpack message. The executor sends one
RunnerConfig, as JSON, and then ExecutorMessages; everything the worker sends is a WorkerMessage.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import TypeVar

import msgspec

from glmserve.config import LoadProgress, RunnerConfig
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.step import RunnerInfo, StepInput, StepOutput, TokenMasks

_HEADER = struct.Struct("<I")
HEADER_SIZE = _HEADER.size

_encoder = msgspec.msgpack.Encoder()

Decoded = TypeVar("Decoded", bound=msgspec.Struct)


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


class LoadAdapter(msgspec.Struct, frozen=True, array_like=True, tag="load_adapter"):
    """Load an adapter beside the steps, and answer with AdapterLoaded."""

    source: AdapterSource


class RemoveAdapter(msgspec.Struct, frozen=True, array_like=True, tag="remove_adapter"):
    """Free an adapter after the steps that were sent before this message."""

    adapter_id: int


class ReleaseCache(msgspec.Struct, frozen=True, array_like=True, tag="release_cache"):
    """Give the KV cache's memory back after the steps that were sent before this message."""


class AdapterLoaded(msgspec.Struct, frozen=True, array_like=True, tag="adapter_loaded"):
    """Steps may use the adapter from now on; or it was refused."""

    adapter_id: int
    error: str = ""
    """Why the adapter was refused; empty: it is loaded."""


RANK_LOST = 3
"""Exit code of a worker that misses another rank of its group."""

ExecutorMessage = StepInput | TokenMasks | LoadAdapter | RemoveAdapter | ReleaseCache
"""A StepInput with constrained tokens is followed by its TokenMasks, or by the next StepInput and
then its TokenMasks."""

decode_executor_message = msgspec.msgpack.Decoder(ExecutorMessage).decode

WorkerMessage = Loading | Ready | Failed | StepOutput | AdapterLoaded

decode_worker_message = msgspec.msgpack.Decoder(WorkerMessage).decode


def encode_frame(message: msgspec.Struct) -> bytes:
    """One message with its length in front."""
    return _framed(_encoder.encode(message))


def encode_config_frame(config: RunnerConfig) -> bytes:
    """The executor's first frame."""
    return _framed(encode_json(config))


def encode_json(message: msgspec.Struct) -> bytes:
    """JSON in ASCII: in paths, bytes that are not UTF-8 are escaped."""
    return json.dumps(msgspec.to_builtins(message)).encode()


def decode_json(data: bytes | bytearray, kind: type[Decoded]) -> Decoded:
    """The inverse of `encode_json`."""
    return msgspec.convert(json.loads(data), kind)


def body_size(header: bytes | bytearray | memoryview) -> int:
    """How many bytes follow a header of HEADER_SIZE bytes."""
    size: int = _HEADER.unpack_from(header)[0]
    return size


def receive_frame(connection: socket.socket) -> bytearray | None:
    """Wait for the next frame's body; None when the other end is closed."""
    header = _receive_exactly(connection, HEADER_SIZE)
    return None if header is None else _receive_exactly(connection, body_size(header))


def _framed(body: bytes) -> bytes:
    return _HEADER.pack(len(body)) + body


def _receive_exactly(connection: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        received = connection.recv_into(view)
        if not received:
            return None
        view = view[received:]
    return data
