"""What the journal keeps of a request and of its answer."""

from __future__ import annotations

import enum
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from glmserve.contract.step import Logprobs


class Phase(enum.IntEnum):
    """The state of a request. The numbers are stored on disk and never change their meaning."""

    RUNNING = 0
    """A client waits for the answer, or waited when the server ended."""
    ABANDONED = 1
    """The client disconnected before the end."""
    COMPLETE = 2
    """The whole answer is in the journal."""


class Entry(msgspec.Struct, kw_only=True):
    """An accepted request: everything that its answer depends on, except its tokens.

    Stored on disk with its field names.
    """

    id: int
    stream_id: str
    """Random, so that no other client can guess it. The ids in the answer derive from it."""
    owner: str
    """Identifies the API key; empty if the server has no keys."""
    path: str
    digest: bytes
    """See `digest_of`."""
    is_stream: bool
    idempotency_key: str | None
    created: float
    """Unix seconds."""
    adapter: str = ""
    """Digest of the adapter that answers; empty: the model itself does."""
    seed: int = 0
    notes: bytes = b""
    """What the endpoint needs besides the body to answer again. Kept on disk only, like bodies."""
    phase: Phase = Phase.RUNNING
    expires: float | None = None
    """Unix seconds; None while the answer is being generated."""


class Delta(msgspec.Struct, array_like=True, omit_defaults=True):
    """The tokens that an answer gained in one event, or the end of a choice."""

    choice: int
    """Index of the choice among all choices of the request."""
    token_ids: list[int]
    status: int = 0
    """A finished RequestStatus at the choice's end, else 0."""
    ended: float = 0.0
    """Time of the choice's end, Unix seconds."""
    num_cached_tokens: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0
    logprobs: list[Logprobs] = []
    """One per token if the request asks for them."""
    prompt_logprobs: list[Logprobs] = []
    """Those of the prompt if the request asks for them, with the first delta for that prompt."""


class Record(NamedTuple):
    """What is recorded of an answer."""

    notes: bytes
    deltas: list[Delta]


def digest_of(path: str, body: bytes, adapter: str = "") -> bytes:
    """The digest by which a repeated request is recognised. 32 bytes.

    Args:
        adapter: see Entry. A path has no zero byte, so none is mistaken for another.
    """
    where = f"{path}\0{adapter}" if adapter else path
    return blake2b(where.encode() + b"\0" + body, digest_size=32).digest()


encode_delta = msgspec.msgpack.Encoder().encode
decode_delta = msgspec.msgpack.Decoder(Delta).decode
encode_entry = msgspec.msgpack.Encoder().encode
decode_entry = msgspec.msgpack.Decoder(Entry).decode
