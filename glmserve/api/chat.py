"""POST /v1/chat/completions"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.body import read_request
from glmserve.api.cached import through_cache
from glmserve.api.chat_generation import (
    ChatDelta,
    ChatGeneration,
    WholeAnswer,
    start_chat,
)
from glmserve.api.chat_objects import (
    AssistantMessageObject,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    Function,
    FunctionDelta,
    MessageDelta,
    ToolCallDelta,
    ToolCallObject,
)
from glmserve.api.context import ServerContext, context_of
from glmserve.api.identity import Identity
from glmserve.api.journaling.asked import Asked
from glmserve.api.journaling.through import through_journal
from glmserve.api.logprobs import ChatLogprobs
from glmserve.api.offload import offload
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.api.responses import json_response
from glmserve.api.sse import DONE, encode_json, event, streamed
from glmserve.text.tools import ArgumentsDelta, CallStarted, ContentDelta, ToolEvent


async def chat_completions(request: Request) -> Response:
    """Answer the last message of a conversation, streamed or whole."""
    context = context_of(request)
    chat = await read_request(request, ChatCompletionRequest)
    context.check_model(chat.model)

    async def answer(asked: Asked) -> Response:
        return await _answer(request, context, chat, asked)

    return await through_journal(
        request, chat.stream, lambda asked: through_cache(request, chat, asked, answer)
    )


async def _answer(
    request: Request, context: ServerContext, chat: ChatCompletionRequest, asked: Asked
) -> Response:
    answering = await start_chat(context, chat, asked)
    if chat.stream:
        chunks = _Chunks(context, chat, answering)
        return await streamed(request, answering.generation, chunks.events())
    answers = await answering.collect(request)
    num_scored = sum(len(answer.scored) for answer in answers)
    return await offload(
        lambda: json_response(_completion(context, chat, answering, answers)), num_scored
    )


def _service_tier(chat: ChatCompletionRequest) -> Literal["default"] | UnsetType:
    """There is but one tier; who has named one is told so."""
    return "default" if "service_tier" in chat.model_fields_set else UNSET


def _completion(
    context: ServerContext,
    chat: ChatCompletionRequest,
    answering: ChatGeneration,
    answers: Sequence[WholeAnswer],
) -> ChatCompletion:
    generation = answering.generation
    prompt_ids = generation.streams[0].request.prompt_ids
    return ChatCompletion(
        id=generation.identity.new_id("chatcmpl-"),
        created=generation.identity.created,
        model=chat.model,
        choices=[
            _choice(context, chat, generation.identity, index, answer)
            for index, answer in enumerate(answers)
        ],
        service_tier=_service_tier(chat),
        usage=generation.usage(),
        prompt_token_ids=prompt_ids if chat.return_token_ids else UNSET,
    )


def _choice(
    context: ServerContext,
    chat: ChatCompletionRequest,
    identity: Identity,
    index: int,
    answer: WholeAnswer,
) -> ChatChoice:
    calls = [ToolCallObject(identity.new_call_id(), Function(*call)) for call in answer.calls]
    message = AssistantMessageObject(
        content=answer.content or (None if calls else ""), tool_calls=calls or UNSET
    )
    logprobs = None
    if chat.logprobs and context.tokenizer:
        logprobs = ChatLogprobs(context.tokenizer).push(answer.scored)
    token_ids = answer.token_ids if chat.return_token_ids else UNSET
    return ChatChoice(index, message, logprobs, answer.finish_reason, token_ids)


class _Chunks:
    """Writes a stream; its chunks share id, time and model."""

    def __init__(
        self, context: ServerContext, chat: ChatCompletionRequest, answering: ChatGeneration
    ) -> None:
        self._chat = chat
        self._answering = answering
        self._identity = answering.generation.identity
        self._head: dict[str, Any] = {
            "id": self._identity.new_id("chatcmpl-"),
            "created": self._identity.created,
            "model": chat.model,
            "service_tier": _service_tier(chat),
            "usage": None if chat.include_usage else UNSET,
        }
        self._is_plain = not (chat.logprobs or chat.return_token_ids or answering.may_call)
        self._has_role = [False] * chat.n
        tokenizer = context.tokenizer
        self._logprobs = [
            ChatLogprobs(tokenizer) if chat.logprobs and tokenizer else None for _ in range(chat.n)
        ]

    def events(self) -> AsyncIterator[bytes]:
        """The events of the stream."""
        return self._plain_events() if self._is_plain else self._rich_events()

    async def _plain_events(self) -> AsyncIterator[bytes]:
        """Nothing but text: written as fast as can be, as most streams are like this."""
        for data in self._opening():
            yield data
        generation = self._answering.generation
        frames = [self._content_frame(index) for index in range(self._chat.n)]
        async for index, delta in generation.deltas():
            if delta is None:
                reason = generation.streams[index].finish_reason
                last = ChunkChoice(index, MessageDelta(), finish_reason=reason)
                yield self._choice_event(last)
            elif delta.text:
                before, after = frames[index]
                yield before + encode_json(delta.text) + after
        for data in self._closing():
            yield data

    async def _rich_events(self) -> AsyncIterator[bytes]:
        for data in self._opening():
            yield data
        async for delta in self._answering.deltas():
            for data in self._events_of(delta):
                yield data
        for data in self._closing():
            yield data

    def _opening(self) -> Iterator[bytes]:
        """Each choice's role. Where a call may come, content may be null: the role waits for it."""
        if not self._answering.may_call:
            for index in range(self._chat.n):
                message = self._with_role(index, MessageDelta(content=""))
                yield self._choice_event(ChunkChoice(index, message))

    def _closing(self) -> Iterator[bytes]:
        if self._chat.include_usage:
            usage = self._answering.generation.usage()
            yield event(ChatChunk(**{**self._head, "choices": [], "usage": usage}))
        yield DONE

    def _events_of(self, delta: ChatDelta) -> list[bytes]:
        """The events of one delta: one each for what it brings, and one for the end."""
        index = delta.number
        deltas = [_message_delta(item, self._identity) for item in delta.events]
        if not deltas and (delta.scored or (delta.token_ids and self._chat.return_token_ids)):
            deltas = [MessageDelta()]
        data = []
        logprobs = self._logprobs[index]
        for number, message in enumerate(deltas):
            choice = ChunkChoice(index, self._with_role(index, message))
            if number == 0:
                if logprobs is not None and delta.scored:
                    choice.logprobs = logprobs.push(delta.scored)
                if self._chat.return_token_ids:
                    choice.token_ids = delta.token_ids
            data.append(self._choice_event(choice))
        if delta.finish_reason is not None:
            last = self._with_role(index, MessageDelta())
            data.append(
                self._choice_event(ChunkChoice(index, last, finish_reason=delta.finish_reason))
            )
        return data

    def _with_role(self, index: int, message: MessageDelta) -> MessageDelta:
        """The message, with what only a choice's first chunk says."""
        if not self._has_role[index]:
            self._has_role[index] = True
            message.role = "assistant"
            message.refusal = None
            if message.content is UNSET:
                # A call has none, and as long as nothing is said a call may follow.
                message.content = None if self._answering.may_call else ""
        return message

    def _choice_event(self, choice: ChunkChoice) -> bytes:
        chunk = ChatChunk(**self._head, choices=[choice])
        if self._chat.return_token_ids and choice.delta.role is not UNSET:
            chunk.prompt_token_ids = self._answering.generation.streams[0].request.prompt_ids
        return event(chunk)

    def _content_frame(self, index: int) -> tuple[bytes, bytes]:
        """A content event cut at its text: everything else is the same for every token."""
        chunk = ChatChunk(**self._head, choices=[ChunkChoice(index, MessageDelta(content="\0"))])
        before, after = event(chunk).split(rb'"\u0000"')
        return before, after


def _message_delta(item: ToolEvent, identity: Identity) -> MessageDelta:
    match item:
        case ContentDelta(text):
            return MessageDelta(content=text)
        case CallStarted(index, name):
            function = FunctionDelta("", name)
            return MessageDelta(
                tool_calls=[ToolCallDelta(index, function, identity.new_call_id(), "function")]
            )
        case ArgumentsDelta(index, text):
            return MessageDelta(tool_calls=[ToolCallDelta(index, FunctionDelta(text))])
