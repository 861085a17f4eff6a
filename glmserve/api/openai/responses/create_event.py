"""`response.create`: the message by which a client asks for a response over a WebSocket"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.protocol.base import wrong_field


class ResponseCreateEvent(ResponsesRequest):
    """Answer the input by events. Its fields are those of POST /v1/responses."""

    type: Literal["response.create"]
    stream: bool = Field(True, description="Every response comes as events.")
    generate: bool = Field(True, description="false is not supported.")

    @model_validator(mode="after")
    def _check_transport(self) -> Self:
        if not self.stream:
            raise wrong_field("stream", "a response over a WebSocket comes as events; leave it out")
        if self.background:
            raise wrong_field("background", "not over a WebSocket; POST the request")
        if not self.generate:
            raise wrong_field(
                "generate",
                "every request is answered; prompts that begin alike are "
                "found without a request of its own",
            )
        return self
