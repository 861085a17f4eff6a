"""What is kept of a request and of its answer."""

from __future__ import annotations

import enum
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from glmserve.contract.step import Logprobs


class Phase(enum.IntEnum):
    """Where a request stands. Kept on disk: numbers never change their meaning."""

    RUNNING = 0
    """A client waits for it, or did when the server ended."""
    ABANDONED = 1
    """Its client went away before the end."""
    COMPLETE = 2
    """All of its answer is in the journal."""


class Entry(msgspec.Struct, kw_only=True):
    """An accepted request, and everything that its answer depends on but its tokens."""

    id: int
    stream_id: str
    """Nobody can guess it; the ids in the answer are made of it."""
    owner: str
    """Which API key; empty where the server asks for none."""
    path: str
    digest: bytes
    """See `digest_of`."""
    is_stream: bool
    idempotency_key: str | None
    created: float
    """Unix seconds."""
    seed: int = 0
    notes: bytes = b""
    """What the endpoint needs beside the body to answer it again; on disk only, as bodies are."""
    phase: Phase = Phase.RUNNING
    expires: float | None = None
    """Unix seconds; None as long as somebody answers it."""


class Delta(msgspec.Struct, array_like=True, omit_defaults=True):
    """Tokens as they were made into events together, or the end of a choice."""

    choice: int
    """Its number among all choices of the request."""
    token_ids: list[int]
    status: int = 0
    """A finished RequestStatus, if this is the choice's end."""
    ended: float = 0.0
    """When that was, Unix seconds."""
    num_cached_tokens: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0
    logprobs: list[Logprobs] = []
    """One per token if the request wants them."""
    prompt_logprobs: list[Logprobs] = []
    """Of the group's prompt, if the request wants them; with the first delta of the group."""


class Record(NamedTuple):
    """What there is of an answer."""

    notes: bytes
    deltas: list[Delta]


def digest_of(path: str, body: bytes) -> bytes:
    """By which a request is known when it comes again, byte for byte."""
    return blake2b(path.encode() + b"\0" + body, digest_size=32).digest()


encode_delta = msgspec.msgpack.Encoder().encode
decode_delta = msgspec.msgpack.Decoder(Delta).decode
encode_entry = msgspec.msgpack.Encoder().encode
decode_entry = msgspec.msgpack.Decoder(Entry).decode
