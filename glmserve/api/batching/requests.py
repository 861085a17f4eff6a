"""The bodies of requests about batches."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from glmserve.api.protocol.base import StrictModel, at_most
from glmserve.batches.lines import Endpoint

_WINDOW = re.compile(r"([1-9]\d{0,3})([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 24 * 3600}
_LONGEST_WINDOW = 30 * 24 * 3600
_MOST_METADATA = 16
_LONGEST_KEY, _LONGEST_VALUE = 64, 512  # characters; OpenAI's

SHORTEST_KEEP, LONGEST_KEEP = 3600, 30 * 24 * 3600
"""Seconds for which a client may ask to keep a file; OpenAI's."""


class ExpiresAfter(StrictModel):
    """How long output files are kept."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=SHORTEST_KEEP, le=LONGEST_KEEP)


Key = Annotated[str, Field(max_length=_LONGEST_KEY)]
Value = Annotated[str, Field(max_length=_LONGEST_VALUE)]


class CreateBatchRequest(StrictModel):
    """A batch of the requests of a file."""

    input_file_id: str = Field(description="Of a file with purpose batch.")
    endpoint: Endpoint = Field(description="The path that all lines ask.")
    completion_window: str = Field(
        description="When lines expire that are not answered: such as 24h; m, h or d, up to 30d."
    )
    metadata: Annotated[dict[Key, Value], at_most(_MOST_METADATA, "pairs")] | None = None
    output_expires_after: ExpiresAfter | None = None

    @field_validator("completion_window")
    @classmethod
    def _check_window(cls, value: str) -> str:
        if window_seconds(value) is None:
            raise ValueError("must be a number of minutes, hours or days up to 30d, such as '24h'")
        return value


def window_seconds(text: str) -> int | None:
    """The seconds of a completion window; None: it is none."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        return None
    seconds = int(match[1]) * _SECONDS[match[2]]
    return seconds if seconds <= _LONGEST_WINDOW else None
