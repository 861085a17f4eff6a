"""Starts the answer to a conversation: puts messages, tools and structure together.

Every endpoint that answers conversations uses this, and writes the result in its own shape.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.context import NO_CHAT_FORMAT, ServerContext
from glmserve.api.answering.conversation import render
from glmserve.api.answering.generation import Generation, WholeText
from glmserve.api.answering.prediction import prediction_ids
from glmserve.api.answering.structure import answer_structure, dropped_header, keeps_text
from glmserve.api.answering.submission import GenerationSpec, submit_generation
from glmserve.api.answering.tool_choice import ToolUse, tool_use
from glmserve.api.answering.truncation import truncated
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.errors import InvalidRequestError
from glmserve.text.chat_format import ChatFormat
from glmserve.text.response_filter import ResponseFilter, StripLeading
from glmserve.text.structure import CompiledStructure
from glmserve.text.text_assembler import ScoredToken
from glmserve.text.tools import (
    ArgumentsDelta,
    CallStarted,
    ContentDelta,
    ToolEvent,
    ToolParser,
)


class ChatDelta(NamedTuple):
    """New text and calls of one choice."""

    number: int
    events: Sequence[ToolEvent]
    token_ids: list[int]
    scored: list[ScoredToken]
    finish_reason: str | None = None
    """Set once per choice, in its last delta: stop, length or tool_calls."""


class ChatAnswer(NamedTuple):
    """A complete choice."""

    content: str
    calls: list[tuple[str, str]]
    """Name and arguments of each call."""
    events: Sequence[ToolEvent]
    """Content and calls in the order in which they were written."""
    token_ids: list[int]
    scored: list[ScoredToken]
    finish_reason: str


class ChatGeneration:
    """The choices that answer one conversation. The generation must be closed on every path."""

    def __init__(
        self, generation: Generation, parsers: Sequence[ToolParser] | None, use: ToolUse
    ) -> None:
        self.generation = generation
        self.may_call = parsers is not None
        """Whether the events may have tool calls."""
        self._readers = [
            _CallReader(parsers[number] if parsers else None, use.parallel)
            for number in range(len(generation.choices))
        ]

    async def deltas(self) -> AsyncIterator[ChatDelta]:
        """Deltas of all choices as they grow.

        Raises:
            GlmserveError: a choice failed.
        """
        async for number, delta in self.generation.deltas():
            reader = self._readers[number]
            if delta is not None:
                events = reader.push(delta.text)
                yield ChatDelta(number, events, delta.token_ids, delta.scored)
            else:
                events = reader.flush()
                reason = reader.finish_reason(self.generation.choices[number].finish_reason)
                yield ChatDelta(number, events, [], [], reason)

    def read_whole(self, texts: Sequence[WholeText]) -> list[ChatAnswer]:
        """All choices when their texts are complete."""
        return [
            reader.whole(whole.text, whole.token_ids, whole.scored, whole.choice.finish_reason)
            for reader, whole in zip(self._readers, texts, strict=True)
        ]

    def reading_size(self, texts: Sequence[WholeText]) -> int:
        """Characters and scored tokens that it takes to make a response of these texts."""
        characters = sum(len(whole.text) for whole in texts) if self.may_call else 0
        return max(characters, sum(len(whole.scored) for whole in texts))


class _CallReader:
    """Finds the calls in one choice's text."""

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
    ) -> ChatAnswer:
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
        return ChatAnswer(
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


async def chat_prompt(server: ServerContext, chat: ChatCompletionRequest) -> list[int]:
    """Token ids of a conversation and the tools it offers, up to where the answer begins.

    Raises:
        InvalidRequestError: there is no tokenizer, or the conversation cannot be formatted.
    """
    return await _prompt(server, _chat_format(server), chat, tool_use(chat))


async def start_chat(
    server: ServerContext,
    chat: ChatCompletionRequest,
    answer: AnswerContext,
    *,
    cut_to_context: bool = False,
    others: Sequence[ChatCompletionRequest] = (),
) -> ChatGeneration:
    """Start answering. The result's generation must be closed on every path.

    Args:
        cut_to_context: see GenerationSpec.
        others: requests with other messages, but the same in everything else, that are answered
            together with this one. They have no tools.

    Raises:
        GlmserveError: the request cannot be honoured now, or at all.
    """
    chat_format = _chat_format(server)
    offer = tool_use(chat)
    use = _possible_use(chat, chat_format, offer)
    stop_ids = frozenset(chat_format.stop_ids) | frozenset(server.model.eos_token_ids)
    structure = await answer_structure(server, chat, chat_format, use, stop_ids)
    answer.headers.update(dropped_header(structure))
    prediction: Sequence[int] = ()
    if chat.prediction is not None:
        prediction = await prediction_ids(
            chat, chat.prediction.text, server, chat_format.tokenizer, structure
        )
    spec = GenerationSpec(
        prompts=[await _prompt(server, chat_format, one, offer) for one in (chat, *others)],
        prompts_param="messages",
        max_tokens=chat.output_limit,
        stop_ids=stop_ids,
        cut_to_context=cut_to_context,
        num_choices=chat.n,
        top_logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
        prompt_logprobs=chat.prompt_logprobs,
        structure=structure,
        prediction=prediction,
        continues_text=bool(chat.begun_answer),
        new_filter=_new_filter(chat_format, structure, chat),
    )
    generation = submit_generation(server, chat, spec, answer)
    parsers = [chat_format.tool_parser(use.offered) for _ in range(chat.n)] if use.offered else None
    return ChatGeneration(generation, parsers, use)


async def _prompt(
    server: ServerContext, chat_format: ChatFormat, chat: ChatCompletionRequest, offer: ToolUse
) -> list[int]:
    prompt_ids = await render(
        server,
        chat_format,
        chat.messages,
        offer.offered,
        continue_last=chat.continues_last,
        begin_answer=chat.add_generation_prompt,
        variables=chat.chat_template_kwargs,
    )
    if chat.truncate_prompt_tokens is None:
        return prompt_ids
    return truncated(server, chat, prompt_ids, chat.output_limit or 1)


def _possible_use(chat: ChatCompletionRequest, chat_format: ChatFormat, offer: ToolUse) -> ToolUse:
    """The calls that the answer may have: none in a continued message, in some formats.

    Raises:
        InvalidRequestError: a call is required, but impossible.
    """
    if not offer.offered or not chat.begun_answer or chat_format.calls_anywhere:
        return offer
    if offer.is_required:
        raise InvalidRequestError(
            "tool_choice: this model calls tools at the beginning of a message, so none can be "
            "required in a message that is continued",
            "tool_choice",
        )
    return ToolUse([], is_required=False, parallel=True, needs_grammar=False)


def _chat_format(server: ServerContext) -> ChatFormat:
    if server.chat_format is None and server.tokenizer is not None:
        raise InvalidRequestError(NO_CHAT_FORMAT, "messages")
    if server.chat_format is None:
        raise InvalidRequestError(
            "this server has no tokenizer; send token ids to /v1/completions", "messages"
        )
    return server.chat_format


def _new_filter(
    chat_format: ChatFormat, structure: CompiledStructure | None, chat: ChatCompletionRequest
) -> Callable[[], ResponseFilter] | None:
    """The rewrite of the text; a structured text gets none that could break its structure."""
    if chat.begun_answer:
        return None if keeps_text(structure, chat) else chat_format.continuation_filter
    if structure is None or not keeps_text(structure, chat):
        return chat_format.response_filter
    return StripLeading if structure.has_lead_in else None
