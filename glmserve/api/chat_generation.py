"""From a checked conversation to a running answer: messages, tools and structure put together.

Shared by every endpoint that answers conversations; each writes the result in its own shape.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from starlette.requests import Request

from glmserve.api.answer_structure import answer_structure, keeps_text
from glmserve.api.bounds import check_characters
from glmserve.api.choices import Generation
from glmserve.api.context import ServerContext
from glmserve.api.conversation import chat_messages, num_characters
from glmserve.api.generation import Job, start
from glmserve.api.journaling.asked import Asked
from glmserve.api.offload import offload
from glmserve.api.prediction import prediction_ids
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.api.tool_choice import ToolUse, tool_use
from glmserve.errors import InvalidRequestError
from glmserve.text.chat_format import ChatFormat
from glmserve.text.response_filter import ResponseFilter, StripLeading
from glmserve.text.structure import CompiledStructure
from glmserve.text.text_stream import ScoredToken
from glmserve.text.tools import (
    ArgumentsDelta,
    CallStarted,
    ContentDelta,
    ToolEvent,
    ToolParser,
)


class ChatDelta(NamedTuple):
    """What is new in one answer."""

    number: int
    events: Sequence[ToolEvent]
    token_ids: list[int]
    scored: list[ScoredToken]
    finish_reason: str | None = None
    """Set once per answer, in its last delta: stop, length or tool_calls."""


class WholeAnswer(NamedTuple):
    """A complete answer."""

    content: str
    calls: list[tuple[str, str]]
    """Name and arguments of each call."""
    events: Sequence[ToolEvent]
    """Both, in the order in which they were written."""
    token_ids: list[int]
    scored: list[ScoredToken]
    finish_reason: str


class ChatGeneration:
    """The answers to one conversation. Must be closed on every path."""

    def __init__(
        self, generation: Generation, parsers: Sequence[ToolParser] | None, use: ToolUse
    ) -> None:
        self.generation = generation
        self.may_call = parsers is not None
        """Whether there may be tool calls among the events."""
        self._answers = [
            _Answer(parsers[number] if parsers else None, use.parallel)
            for number in range(len(generation.streams))
        ]

    async def deltas(self) -> AsyncIterator[ChatDelta]:
        """All answers as they grow.

        Raises:
            GlmserveError: one of them failed.
        """
        async for number, delta in self.generation.deltas():
            answer = self._answers[number]
            if delta is not None:
                events = answer.push(delta.text)
                yield ChatDelta(number, events, delta.token_ids, delta.scored)
            else:
                events = answer.flush()
                reason = answer.finish_reason(self.generation.streams[number].finish_reason)
                yield ChatDelta(number, events, [], [], reason)

    async def collect(self, request: Request) -> list[WholeAnswer]:
        """All answers when they are complete, unless the client leaves first.

        Raises:
            ClientDisconnect: it left.
            GlmserveError: one of them failed.
        """
        wholes = await self.generation.collect(request)

        def read() -> list[WholeAnswer]:
            return [
                answer.whole(whole.text, whole.token_ids, whole.scored, whole.stream.finish_reason)
                for answer, whole in zip(self._answers, wholes, strict=True)
            ]

        return await offload(read, sum(len(whole.text) for whole in wholes) if self.may_call else 0)


class _Answer:
    """Finds the calls in one answer."""

    def __init__(self, parser: ToolParser | None, parallel: bool) -> None:
        self._parser = parser
        self._parallel = parallel
        self._has_called = False

    def push(self, text: str) -> Sequence[ToolEvent]:
        if self._parser is None:
            return [ContentDelta(text)] if text else []
        return self._allowed(self._parser.push(text))

    def flush(self) -> Sequence[ToolEvent]:
        return self._allowed(self._parser.flush()) if self._parser else []

    def finish_reason(self, reason: str) -> str:
        return "tool_calls" if self._has_called and reason == "stop" else reason

    def whole(
        self, text: str, token_ids: list[int], scored: list[ScoredToken], reason: str
    ) -> WholeAnswer:
        content, calls = list[str](), list[tuple[str, list[str]]]()
        events = (*self.push(text), *self.flush())
        for event in events:
            match event:
                case ContentDelta(more):
                    content.append(more)
                case CallStarted(_, name):
                    calls.append((name, []))
                case ArgumentsDelta(index, more):
                    calls[index][1].append(more)
        return WholeAnswer(
            "".join(content),
            [(name, "".join(arguments)) for name, arguments in calls],
            events,
            token_ids,
            scored,
            self.finish_reason(reason),
        )

    def _allowed(self, events: list[ToolEvent]) -> list[ToolEvent]:
        """Without parallel_tool_calls, the first call and what comes before it."""
        if not self._parallel and self._has_called:
            events = [e for e in events if isinstance(e, ArgumentsDelta) and e.index == 0]
        elif not self._parallel:
            events = [e for e in events if isinstance(e, ContentDelta) or e.index == 0]
        self._has_called = self._has_called or any(isinstance(e, CallStarted) for e in events)
        return events


async def chat_prompt(context: ServerContext, chat: ChatCompletionRequest) -> list[int]:
    """The ids of a conversation and the tools it offers, up to where the answer begins.

    Raises:
        InvalidRequestError: there is no tokenizer, or the conversation has no form.
    """
    return await _render(context, _chat_format(context), chat, tool_use(chat))


async def start_chat(
    context: ServerContext, chat: ChatCompletionRequest, asked: Asked
) -> ChatGeneration:
    """Start answering. The result's generation must be closed on every path.

    Raises:
        GlmserveError: the request cannot be honoured now, or at all.
    """
    chat_format = _chat_format(context)
    use = tool_use(chat)
    stop_ids = frozenset(chat_format.stop_ids) | frozenset(context.model.eos_token_ids)
    structure = await answer_structure(context, chat, chat_format, use, stop_ids)
    job = Job(
        prompts=[await _render(context, chat_format, chat, use)],
        prompts_param="messages",
        max_tokens=chat.output_limit,
        stop_ids=stop_ids,
        num_choices=chat.n,
        top_logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
        structure=structure,
        prediction=await prediction_ids(chat, context, chat_format.tokenizer, structure),
        new_filter=_new_filter(chat_format, structure, chat),
    )
    generation = start(context, chat, job, asked)
    parsers = [chat_format.tool_parser(use.offered) for _ in range(chat.n)] if use.offered else None
    return ChatGeneration(generation, parsers, use)


def _chat_format(context: ServerContext) -> ChatFormat:
    if context.chat_format is None:
        raise InvalidRequestError(
            "this server has no tokenizer; send token ids to /v1/completions", "messages"
        )
    return context.chat_format


async def _render(
    context: ServerContext, chat_format: ChatFormat, chat: ChatCompletionRequest, use: ToolUse
) -> list[int]:
    messages = chat_messages(chat.messages)
    size = num_characters(messages, use.offered)
    check_characters(size, context.engine.info.limits.max_context, "messages")
    return await offload(lambda: chat_format.render(messages, use.offered), size)


def _new_filter(
    chat_format: ChatFormat, structure: CompiledStructure | None, chat: ChatCompletionRequest
) -> Callable[[], ResponseFilter] | None:
    """What is done to the text: to a structure nothing that could break it."""
    if structure is None or not keeps_text(structure, chat):
        return chat_format.response_filter
    return StripLeading if structure.has_lead_in else None
