"""POST /tokenize and /detokenize, in the shape that vLLM gave them"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import msgspec
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.answering.bounds import check_tokenizable
from glmserve.api.answering.context import NO_CHAT_FORMAT, ServerContext
from glmserve.api.answering.conversation import chat_messages, num_characters
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.answering.tool_choice import known_tools
from glmserve.api.http.body import read_request
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.api.openai.models import MaxModelLen
from glmserve.api.protocol import StrictModel
from glmserve.api.protocol.accepted.tokenize import TOKENIZE
from glmserve.api.protocol.base import FAIL_FAST, MAX_PARTS, MAX_TOOLS
from glmserve.api.protocol.chat import TemplateArguments, can_be_continued
from glmserve.api.protocol.messages import Message
from glmserve.api.protocol.sampling import TokenId
from glmserve.api.protocol.tools import AnyTool
from glmserve.errors import InvalidRequestError
from glmserve.text.tokenizer import Tokenizer


class _Request(StrictModel):
    model: str | None = Field(None, description="Checked if it is given.")


class TokenizeRequest(_Request):
    """POST /tokenize: a text, or a conversation as the model would read it."""

    accepted: ClassVar = TOKENIZE

    prompt: str | None = None
    messages: (
        Annotated[list[Message], FAIL_FAST, Field(min_length=1, max_length=MAX_PARTS)] | None
    ) = None
    tools: Annotated[list[AnyTool], FAIL_FAST, Field(max_length=MAX_TOOLS)] = []
    add_special_tokens: bool | None = Field(
        None,
        description="Add the tokens around every text, as /v1/completions does. Default: true for "
        "a prompt. A conversation has those of its format; true adds others.",
    )
    add_generation_prompt: bool = Field(
        True,
        description="With messages: they end where an answer begins. false: they end with the last "
        "message.",
    )
    continue_final_message: bool = Field(
        False, description="With messages: the last one is the assistant's, and is continued."
    )
    chat_template_kwargs: TemplateArguments = Field(
        {}, description="Variables of the checkpoint's own template; else without effect."
    )
    return_token_strs: bool = Field(
        False, description="Add the tokens as the vocabulary writes them."
    )


class TokenizeResponse(msgspec.Struct):
    """The tokens of a text or a conversation."""

    count: int
    max_model_len: MaxModelLen
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeRequest(_Request):
    """POST /detokenize"""

    tokens: Annotated[list[TokenId], FAIL_FAST]


class DetokenizeResponse(msgspec.Struct):
    """The text of the tokens, names of special tokens included."""

    prompt: str


async def tokenize(request: Request) -> Response:
    """The token ids of a prompt or of a conversation."""
    context = context_of(request)
    body, _ = await read_request(request, TokenizeRequest)
    await _check_model(context, body)
    tokenizer = _tokenizer_of(context, "prompt")
    max_model_len = context.engine.info.limits.max_context
    if body.messages is None:
        encode, size = _prompt_encoder(tokenizer, body)
    else:
        encode, size = _chat_encoder(context, body, body.messages)
    check_tokenizable(size, max_model_len, "prompt" if body.messages is None else "messages")

    def answer() -> Response:
        tokens = encode()
        strings = [tokenizer.piece(t) for t in tokens] if body.return_token_strs else None
        return json_response(TokenizeResponse(len(tokens), max_model_len, tokens, strings))

    blocks = body.messages is not None and _blocks(context)
    return await run_in_thread_if_large(answer, size, always=blocks)


async def detokenize(request: Request) -> Response:
    """The text of token ids."""
    context = context_of(request)
    body, _ = await read_request(request, DetokenizeRequest)
    await _check_model(context, body)
    tokenizer = _tokenizer_of(context, "tokens")
    tokens = body.tokens
    if tokens and max(tokens) >= tokenizer.vocab_size:
        raise InvalidRequestError(
            f"token id {max(tokens)} is outside this tokenizer's vocabulary of "
            f"{tokenizer.vocab_size}",
            "tokens",
        )
    text = await run_in_thread_if_large(
        lambda: tokenizer.decode(tokens, skip_special_tokens=False), len(tokens)
    )
    return json_response(DetokenizeResponse(text))


def _prompt_encoder(
    tokenizer: Tokenizer, body: TokenizeRequest
) -> tuple[Callable[[], list[int]], int]:
    """The function that encodes the prompt, and the number of characters that it reads."""
    prompt = body.prompt
    if prompt is None:
        raise InvalidRequestError("prompt or messages is required", "prompt")
    for name in ("add_generation_prompt", "continue_final_message", "tools"):
        if name in body.model_fields_set:
            raise InvalidRequestError(f"{name} goes with messages", name)
    encode = tokenizer.encode if body.add_special_tokens is False else tokenizer.encode_prompt
    return lambda: encode(prompt), len(prompt)


def _chat_encoder(
    context: ServerContext, body: TokenizeRequest, messages: list[Message]
) -> tuple[Callable[[], list[int]], int]:
    """The same for a conversation."""
    chat_format = context.chat_format
    if chat_format is None:
        raise InvalidRequestError(NO_CHAT_FORMAT, "messages")
    if body.prompt is not None:
        raise InvalidRequestError("send prompt or messages, not both", "messages")
    _check_continuation(body, messages[-1])
    conversation, tools = chat_messages(messages), known_tools(body.tools)
    bound = chat_format.with_variables(body.chat_template_kwargs)

    def encode() -> list[int]:
        ids = bound.render(
            conversation,
            tools,
            continue_last=body.continue_final_message,
            begin_answer=body.add_generation_prompt,
        )
        return bound.tokenizer.marked(ids) if body.add_special_tokens else ids

    return encode, num_characters(conversation, tools)


def _check_continuation(body: TokenizeRequest, last: Message) -> None:
    if body.continue_final_message and not can_be_continued(last):
        raise InvalidRequestError(
            "continue_final_message: the last message must be the assistant's, without tool_calls",
            "continue_final_message",
        )
    is_new = body.add_generation_prompt and "add_generation_prompt" in body.model_fields_set
    if body.continue_final_message and is_new:
        raise InvalidRequestError(
            "add_generation_prompt: a message that is continued is the beginning of the answer; "
            "send one of continue_final_message and add_generation_prompt",
            "add_generation_prompt",
        )


def _blocks(context: ServerContext) -> bool:
    return context.chat_format is not None and context.chat_format.blocks


async def _check_model(context: ServerContext, body: _Request) -> None:
    if body.model is not None:
        await context.find_model(body.model)


def _tokenizer_of(context: ServerContext, param: str) -> Tokenizer:
    if context.tokenizer is None:
        raise InvalidRequestError(
            "this server has no tokenizer: it was started with --skip-tokenizer-init", param
        )
    return context.tokenizer
