"""Starts the answer to a conversation: puts messages, tools and structure together.

Every endpoint that answers conversations uses this, and writes the result in its own shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.answer_reader import AnswerReader, ChatAnswer
from glmserve.api.answering.context import NO_CHAT_FORMAT, ServerContext
from glmserve.api.answering.conversation import prompt_ids
from glmserve.api.answering.generation import ChoiceDelta, Generation, WholeText
from glmserve.api.answering.prediction import prediction_ids
from glmserve.api.answering.structure import answer_structure, dropped_header, keeps_text
from glmserve.api.answering.submission import GenerationSpec, submit_generation
from glmserve.api.answering.thoughts import Thoughts, behind_thoughts, thoughts_of
from glmserve.api.answering.tool_choice import ToolUse, possible_use, tool_use
from glmserve.api.answering.usage import CompletionTokensDetails, Usage
from glmserve.api.protocol import ChatCompletionRequest
from glmserve.api.protocol.thinking import ThoughtPlace
from glmserve.errors import InvalidRequestError
from glmserve.text.chat_format import ChatFormat
from glmserve.text.response_filter import ResponseFilter, StripLeading
from glmserve.text.structure import CompiledStructure
from glmserve.text.text_assembler import ScoredToken
from glmserve.text.thoughts import AnswerEvent
from glmserve.text.tools import ToolParser


class ChatDelta(NamedTuple):
    """New text and calls of one choice."""

    number: int
    events: Sequence[AnswerEvent]
    token_ids: list[int]
    scored: list[ScoredToken]
    finish_reason: str | None = None
    """Set once per choice, in its last delta: stop, length or tool_calls."""


class ChatGeneration:
    """The choices that answer one conversation. The generation must be closed on every path."""

    def __init__(
        self,
        generation: Generation,
        parsers: Sequence[ToolParser] | None,
        use: ToolUse,
        thoughts: Thoughts | None = None,
    ) -> None:
        self.generation = generation
        self.may_call = parsers is not None
        """Whether the events may have tool calls."""
        self.reasons = thoughts is not None
        """Whether the events may have thoughts."""
        self._readers = [
            AnswerReader(
                parsers[number] if parsers else None,
                parallel=use.parallel,
                splitter=thoughts.splitter() if thoughts else None,
                place=thoughts.place if thoughts else ThoughtPlace.OWN,
            )
            for number in range(len(generation.choices))
        ]
        self._counters = [thoughts.counter() for _ in self._readers] if thoughts else []

    def usage(self) -> Usage:
        """Tokens of all choices so far, and how many of them are thoughts."""
        usage = self.generation.usage()
        if self.reasons:
            details = usage.completion_tokens_details or CompletionTokensDetails()
            details.reasoning_tokens = sum(counter.count for counter in self._counters)
            usage.completion_tokens_details = details
        return usage

    def read(self, new: ChoiceDelta) -> ChatDelta:
        """What a delta of the generation brings; each is read once, in their order."""
        number, delta = new
        reader = self._readers[number]
        if delta is not None:
            events = reader.push(delta.text)
            self._count(number, delta.token_ids)
            return ChatDelta(number, events, delta.token_ids, delta.scored)
        events = reader.flush()
        reason = reader.finish_reason(self.generation.choices[number].finish_reason)
        return ChatDelta(number, events, [], [], reason)

    def read_whole(self, texts: Sequence[WholeText]) -> list[ChatAnswer]:
        """All choices when their texts are complete."""
        for number, whole in enumerate(texts):
            self._count(number, whole.token_ids)
        return [
            reader.whole(whole.text, whole.token_ids, whole.scored, whole.choice.finish_reason)
            for reader, whole in zip(self._readers, texts, strict=True)
        ]

    def reading_size(self, texts: Sequence[WholeText]) -> int:
        """Characters and scored tokens that it takes to make a response of these texts."""
        is_parsed = self.may_call or self.reasons
        characters = sum(len(whole.text) for whole in texts) if is_parsed else 0
        return max(characters, sum(len(whole.scored) for whole in texts))

    def _count(self, number: int, token_ids: Sequence[int]) -> None:
        if self._counters:
            self._counters[number].push(token_ids)


async def chat_prompt(server: ServerContext, chat: ChatCompletionRequest) -> list[int]:
    """Token ids of a conversation and the tools it offers, up to where the answer begins.

    Raises:
        InvalidRequestError: there is no tokenizer, or the conversation cannot be formatted.
    """
    return await prompt_ids(server, _chat_format(server), chat, tool_use(chat).offered)


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
    use = possible_use(chat, chat_format, offer)
    stop_ids = frozenset(chat_format.stop_ids) | frozenset(server.model.eos_token_ids)
    structure = await answer_structure(server, chat, chat_format, use, stop_ids)
    answer.headers.update(dropped_header(structure))
    prediction: Sequence[int] = ()
    if chat.prediction is not None:
        prediction = await prediction_ids(
            chat, chat.prediction.text, server, chat_format.tokenizer, structure
        )
    prompts = [await prompt_ids(server, chat_format, one, offer.offered) for one in (chat, *others)]
    thinking = chat.thinking_wishes
    thoughts = thoughts_of(chat_format, thinking, prompts[0], structure)
    structure = await behind_thoughts(server, structure, thoughts, thinking, stop_ids)
    spec = GenerationSpec(
        prompts=prompts,
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
    return ChatGeneration(generation, parsers, use, thoughts)


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
