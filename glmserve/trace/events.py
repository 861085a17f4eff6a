"""The events of a recording, and its file format.

A file is MAGIC, then frames as in `contract/wire.py`: a Beginning, then all events in order. A
checksum follows each frame's header, and one its body. Steps, outputs and adapters are the messages
between server and worker; an adapter is recorded when it is loaded. A file may end in the middle of
a frame.
"""

from __future__ import annotations

import zlib

import msgspec

from glmserve.config import RunnerConfig
from glmserve.contract.adapter import NO_ADAPTER
from glmserve.contract.step import RunnerInfo, StepInput, StepOutput, TokenMasks
from glmserve.contract.wire import LoadAdapter, RemoveAdapter
from glmserve.request import Request, SamplingParams, TokenConstraint

MAGIC = b"glmserve recording 4\n"
CHECKSUM_SIZE = 4


class RunningChecksum:
    """CRC-32 of all headers and bodies so far. It tells a missing or doubled frame too."""

    def __init__(self) -> None:
        self._value = 0

    def after(self, part: bytes) -> bytes:
        """The checksum when `part` follows, in CHECKSUM_SIZE bytes, least significant first."""
        self._value = zlib.crc32(part, self._value)
        return self._value.to_bytes(CHECKSUM_SIZE, "little")


class Beginning(msgspec.Struct, frozen=True, array_like=True, tag="beginning"):
    """The runner is up."""

    glmserve: str
    """Version of glmserve."""
    time: float
    """Unix seconds. The times of later events are seconds after it."""
    config: RunnerConfig
    info: RunnerInfo


class Arrival(msgspec.Struct, frozen=True, array_like=True, tag="arrival"):
    """A request has arrived. Its seed is in `params`."""

    time: float
    id: int
    tenant: str
    priority: int
    cache_salt: bytes
    prompt_ids: list[int]
    params: SamplingParams
    prediction: list[int]
    is_constrained: bool
    is_resumed: bool
    """Whether it continues output of an earlier server."""
    adapter_id: int = NO_ADAPTER
    in_background: bool = False

    @classmethod
    def of(cls, request: Request, time: float) -> Arrival:
        """The event of a request that arrives at `time`, seconds after the beginning."""
        return cls(
            time,
            request.id,
            request.tenant,
            request.priority,
            request.cache_salt,
            request.prompt_ids,
            request.params,
            list(request.prediction),
            request.constraint is not None,
            request.num_tokens > request.num_prompt_tokens,
            request.adapter_id,
            request.in_background,
        )

    def request(self, num_output_tokens: int, constraint: TokenConstraint | None) -> Request:
        """The same request again, limited to `num_output_tokens`."""
        params = msgspec.structs.replace(self.params, max_tokens=num_output_tokens)
        return Request(
            self.id,
            self.prompt_ids,
            params,
            constraint=constraint,
            adapter_id=self.adapter_id,
        )


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """A request has ended."""

    time: float
    id: int
    reason: str
    """As in FINISH_REASONS."""
    num_output_tokens: int


class Loss(msgspec.Struct, frozen=True, array_like=True, tag="loss"):
    """The runner was lost, with its adapters. The steps in flight have no output."""

    time: float


class StepTime(msgspec.Struct, frozen=True, array_like=True, tag="time"):
    """When a step was computed; it follows the step's output. Older recordings have none."""

    step_id: int
    submitted: float
    done: float


class Evictions(msgspec.Struct, frozen=True, array_like=True, tag="evictions"):
    """Blocks that lost a prefix so that the step that follows could have them. Older recordings
    have none."""

    blocks: bytes
    """Packed native int32."""


Event = (
    Arrival
    | End
    | Loss
    | StepInput
    | TokenMasks
    | StepOutput
    | StepTime
    | Evictions
    | LoadAdapter
    | RemoveAdapter
)

decode_beginning = msgspec.msgpack.Decoder(Beginning).decode
decode_event = msgspec.msgpack.Decoder(Event).decode
