"""The prompt of a request as token ids, and how its answer would be generated, in vLLM's shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from glmserve.api.answering.chat_generation import chat_prompt
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.submission import room_for_output, sampling_of
from glmserve.api.protocol import ChatCompletionRequest, GenerationRequest
from glmserve.errors import InvalidRequestError


class RenderedPrompt(msgspec.Struct, kw_only=True):
    """A prompt as token ids, and how its answer is to be generated."""

    request_id: str
    token_ids: list[int]
    token_offsets: None = None
    features: None = None
    sampling_params: dict[str, Any]
    """The request's fields, with the defaults of those that were not sent."""
    model: str
    stream: bool
    stream_options: dict[str, bool] | None
    cache_salt: str | None
    priority: int
    kv_transfer_params: None = None


async def rendered_chat(
    server: ServerContext,
    chat: ChatCompletionRequest,
    request_id: str,
    *,
    cut_to_context: bool = False,
) -> RenderedPrompt:
    """The prompt of a conversation.

    Args:
        cut_to_context: the answer may be asked to be longer than the context; it is cut then.

    Raises:
        GlmserveError: the request cannot be honoured.
    """
    await server.settle_model(chat)
    server.apply_defaults(chat)
    prompt_ids = await chat_prompt(server, chat)
    assert server.chat_format is not None  # otherwise there is no prompt
    stop_ids = {*server.chat_format.stop_ids, *server.model.eos_token_ids}
    logprobs = (chat.top_logprobs or 0) if chat.logprobs else None
    room = room_behind(server, prompt_ids, "messages")
    wanted = chat.output_limit or room
    most = min(wanted, room) if cut_to_context else wanted
    params = sampling_params(chat, most, stop_ids, logprobs)
    return rendered(chat, request_id, prompt_ids, params)


def room_behind(server: ServerContext, prompt_ids: list[int], source: str) -> int:
    """The tokens that an answer may have.

    Args:
        source: the field that the prompt comes from.

    Raises:
        InvalidRequestError: the prompt is too long.
    """
    try:
        return room_for_output(server, len(prompt_ids))
    except InvalidRequestError as error:
        raise error.renamed({"prompt": source}) from None


def sampling_params(
    wanted: GenerationRequest, max_tokens: int, stop_ids: Iterable[int], logprobs: int | None
) -> dict[str, Any]:
    """The fields that decide which tokens are generated, by vLLM's names."""
    sampling = sampling_of(wanted)
    return {
        **{name: getattr(sampling, name) for name in sampling.__struct_fields__},
        "logit_bias": {str(key): bias for key, bias in sampling.logit_bias.items()} or None,
        "n": wanted.n,
        "seed": wanted.seed,
        "stop": list(wanted.stop_strings),
        "stop_token_ids": sorted(
            {*wanted.stop_token_ids, *(() if wanted.ignore_eos else stop_ids)}
        ),
        "ignore_eos": wanted.ignore_eos,
        "max_tokens": max_tokens,
        "min_tokens": wanted.min_tokens,
        "logprobs": logprobs,
        "prompt_logprobs": wanted.prompt_logprobs,
        "logprob_token_ids": wanted.logprob_token_ids or None,
        "include_stop_str_in_output": wanted.include_stop_str_in_output,
        "skip_special_tokens": wanted.skip_special_tokens,
        "bad_words": wanted.bad_words,
    }


def rendered(
    wanted: GenerationRequest, request_id: str, prompt_ids: list[int], params: dict[str, Any]
) -> RenderedPrompt:
    """The object for one prompt."""
    options = wanted.stream_options
    return RenderedPrompt(
        request_id=request_id,
        token_ids=prompt_ids,
        sampling_params=params,
        model=wanted.model,
        stream=wanted.stream,
        stream_options=options.model_dump() if options is not None else None,
        cache_salt=wanted.cache_salt or None,
        priority=wanted.priority,
    )
