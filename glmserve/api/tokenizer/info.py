"""GET /tokenizer_info, in vLLM's shape: harnesses ask for it before they use /tokenize"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.api.openai.models import MaxModelLen
from glmserve.errors import InvalidRequestError


class TokenizerInfo(msgspec.Struct):
    """The names and sizes of the tokenizer; null for what these models do not have."""

    tokenizer_class: str
    vocab_size: int
    model_max_length: MaxModelLen
    eos_token: str
    bos_token: None = None
    pad_token: None = None
    chat_template: None = None
    """/tokenize writes conversations; there is no template for it."""


async def tokenizer_info(request: Request) -> Response:
    """The names and sizes of the tokenizer."""
    context = context_of(request)
    tokenizer = context.tokenizer
    if tokenizer is None:
        raise InvalidRequestError(
            "this server has no tokenizer: it was started with --skip-tokenizer-init"
        )
    info = TokenizerInfo(
        tokenizer_class=type(tokenizer).__name__,
        vocab_size=tokenizer.vocab_size,
        model_max_length=context.engine.info.limits.max_context,
        eos_token=tokenizer.decode([tokenizer.eos_id], skip_special_tokens=False),
    )
    return json_response(info)
