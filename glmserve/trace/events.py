"""The events of a recording, and how they lie in its file.

A file is MAGIC and then frames as on the wire: a Beginning, and what happened, in its order. The
steps are the very messages that the worker got and gave. A file may end in the middle of a frame.
"""

from __future__ import annotations

import msgspec

from glmserve.config import RunnerConfig
from glmserve.contract.step import RunnerInfo, StepInput, StepOutput, TokenMasks
from glmserve.request import Request, SamplingParams, TokenConstraint

MAGIC = b"glmserve recording 2\n"


class Beginning(msgspec.Struct, frozen=True, array_like=True, tag="beginning"):
    """The runner is up."""

    glmserve: str
    """Version."""
    time: float
    """Unix seconds. Times of later events count from here."""
    config: RunnerConfig
    info: RunnerInfo


class Arrival(msgspec.Struct, frozen=True, array_like=True, tag="arrival"):
    """A request has come. Its seed is in `params`."""

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
    """Whether it continues an answer that an earlier server began."""

    @classmethod
    def of(cls, request: Request, time: float) -> Arrival:
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
        )

    def request(self, num_output_tokens: int, constraint: TokenConstraint | None) -> Request:
        """The same request once more, up to a number of tokens."""
        params = msgspec.structs.replace(self.params, max_tokens=num_output_tokens)
        return Request(self.id, self.prompt_ids, params, constraint=constraint)


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """A request is over."""

    time: float
    id: int
    reason: str
    """As in FINISH_REASONS."""
    num_output_tokens: int


class Loss(msgspec.Struct, frozen=True, array_like=True, tag="loss"):
    """The runner was lost: there will be no output of the steps under way."""

    time: float


Event = Arrival | End | Loss | StepInput | TokenMasks | StepOutput

decode_beginning = msgspec.msgpack.Decoder(Beginning).decode
decode_event = msgspec.msgpack.Decoder(Event).decode
