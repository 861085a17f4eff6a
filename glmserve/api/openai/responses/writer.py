"""Writes one response: before, while and after its output is generated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from glmserve.api.answering.chat_generation import ChatGeneration
from glmserve.api.answering.generation import ChoiceDelta, WholeText
from glmserve.api.answering.sse import encode_json, named_event
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.journaling.identity import Identity
from glmserve.api.openai.logprobs import ChatLogprobs
from glmserve.api.openai.responses.events import ErrorEvent, Event, ResponseEvent
from glmserve.api.openai.responses.objects import (
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    ResponseFailure,
    ResponseObject,
    ResponseReasoning,
    ResponseUsage,
)
from glmserve.api.openai.responses.output import Output
from glmserve.api.openai.responses.protocol import ResponsesRequest, TextConfig
from glmserve.api.openai.responses.raw_messages import RawMessages
from glmserve.api.openai.responses.tools import Functions
from glmserve.api.protocol.chat import JsonObjectFormat
from glmserve.errors import GlmserveError


class ResponseWriter:
    """Writes a response, streamed or whole.

    Args:
        request: the request that is answered.
        functions: those that the request offers.
        is_stored: whether the response will be kept.
        answering: its generation, with one choice.
        logprobs: None if the request wants none.
        raw_messages: makes prompt and answer as text and ids; None if the request wants none.
        on_end: called with the response once it has ended well, or in the background, before a
            client knows of it.
    """

    def __init__(
        self,
        request: ResponsesRequest,
        functions: Functions,
        answering: ChatGeneration,
        logprobs: ChatLogprobs | None,
        on_end: Callable[[ResponseObject], None],
        *,
        is_stored: bool,
        raw_messages: RawMessages | None = None,
    ) -> None:
        self.generation = answering.generation
        self._answering = answering
        self._identity = answering.generation.identity
        self._output = Output(self._identity, functions, logprobs)
        self._on_end = on_end
        self._raw_messages = raw_messages
        self._numbers = itertools.count()
        self.response = _beginning(request, functions, self._identity, is_stored)
        """What there is of the response."""

    async def whole(self, texts: Sequence[WholeText]) -> bytes:
        """The response as one JSON body."""

        def read() -> str:
            (answer,) = self._answering.read_whole(texts)
            self._output.push(answer.events, answer.scored)
            self._note_ids(answer.token_ids)
            return answer.finish_reason

        self._finish(await run_in_thread_if_large(read, self._answering.reading_size(texts)))
        return encode_json(self.response)

    def opening(self) -> Iterator[bytes]:
        """The response as it begins."""
        yield self._state("response.created")
        yield self._state("response.in_progress")

    def push(self, deltas: Sequence[ChoiceDelta]) -> list[bytes]:
        """The events that follow from new deltas."""
        sent = list[bytes]()
        for delta in map(self._answering.read, deltas):
            self._note_ids(delta.token_ids)
            sent += map(self._sent, self._output.push(delta.events, delta.scored))
            if delta.finish_reason is not None:
                sent += map(self._sent, self._finish(delta.finish_reason))
        return sent

    def closing(self) -> Iterator[bytes]:
        """The response as it has ended."""
        yield self._state(f"response.{self.response.status}")

    def failure(self, error: GlmserveError) -> Iterator[bytes]:
        """The last events of a stream that has failed."""
        self._fail(error)
        yield self._sent(ErrorEvent(code=error.code, message=error.message, param=error.param))
        yield self._state("response.failed")

    def keep_failed(self) -> None:
        """Keep a response that no client waits for, and that has failed."""
        self._on_end(self.response)

    def cancel(self) -> None:
        """End a response that no client waits for, without the rest of its output."""
        self.response.status = "cancelled"
        self._close()
        self._on_end(self.response)

    def _fail(self, error: GlmserveError) -> None:
        self.response.status = "failed"
        self.response.error = ResponseFailure("server_error", error.message)
        self._close()

    def _finish(self, reason: str) -> list[Event]:
        is_cut = reason == "length"
        events = self._output.finish("incomplete" if is_cut else "completed")
        response = self.response
        response.status = "incomplete" if is_cut else "completed"
        response.incomplete_details = IncompleteDetails() if is_cut else None
        response.completed_at = None if is_cut else self._identity.end_time
        self._close()
        self._on_end(response)
        return events

    def _note_ids(self, token_ids: list[int]) -> None:
        if self._raw_messages is not None:
            self._raw_messages.add(token_ids)

    def _close(self) -> None:
        self.response.output = self._output.items
        if self._raw_messages is not None:
            request = self.generation.choices[0].request
            self.response.input_messages = [self._raw_messages.prompt(request.prompt_ids)]
            self.response.output_messages = [self._raw_messages.answer()]
        self.response.usage = _usage(self._answering)

    def _state(self, kind: Any) -> bytes:
        return self._sent(ResponseEvent(type=kind, response=self.response))

    def _sent(self, event: Event) -> bytes:
        event.sequence_number = next(self._numbers)
        return named_event(event.type, event)


def _beginning(
    request: ResponsesRequest, functions: Functions, identity: Identity, is_stored: bool
) -> ResponseObject:
    """A response without output, which repeats the fields of the request."""
    choice = request.tool_choice
    reasoning = request.reasoning
    return ResponseObject(
        id=identity.new_id("resp_"),
        created_at=identity.created,
        background=request.background,
        frequency_penalty=request.frequency_penalty,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        model=request.model,
        parallel_tool_calls=request.parallel_tool_calls,
        presence_penalty=request.presence_penalty,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning=(
            ResponseReasoning(reasoning.effort, reasoning.summary)
            if reasoning
            else ResponseReasoning()
        ),
        safety_identifier=request.safety_identifier,
        store=is_stored,
        temperature=request.temperature,
        text=_text(request.text),
        tool_choice=choice if isinstance(choice, str) else choice.model_dump(exclude_none=True),
        tools=[function.model_dump() for _, function in functions.offered],
        top_logprobs=request.top_logprobs or 0,
        top_p=request.top_p,
        truncation=request.truncation,
        user=request.user,
        metadata=request.metadata,
    )


def _text(config: TextConfig) -> dict[str, Any]:
    """The format as the specification has it: a schema of json_object is not in it."""
    text = config.model_dump(by_alias=True)
    if isinstance(config.format, JsonObjectFormat):
        text["format"].pop("schema")
    return text


def _usage(answering: ChatGeneration) -> ResponseUsage:
    usage = answering.usage()
    details = usage.completion_tokens_details
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(usage.prompt_tokens_details.cached_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(details.reasoning_tokens or 0 if details else 0),
        total_tokens=usage.total_tokens,
    )
