"""GET /sampling_defaults: what a chat request gets that sets nothing."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.api.protocol.chat import ChatFields


class SamplingDefaults(msgspec.Struct):
    """The values of fields that a request does not set, by the names of the fields."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    max_tokens: int | None
    """null: what fits into the context."""


async def sampling_defaults(request: Request) -> Response:
    """The checkpoint's defaults, and the API's where the checkpoint has none."""
    context = context_of(request)
    fields = ChatFields.model_construct()
    context.apply_defaults(fields)
    names = [name for name in SamplingDefaults.__struct_fields__ if name != "max_tokens"]
    values = {name: getattr(fields, name) for name in names}
    return json_response(
        SamplingDefaults(**values, max_tokens=context.generation_defaults.max_new_tokens)
    )
