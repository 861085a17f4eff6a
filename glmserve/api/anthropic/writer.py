"""Writes one message: before, while and after its content is generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from glmserve.api.answering.chat_generation import ChatGeneration
from glmserve.api.answering.failure import failure_of
from glmserve.api.answering.generation import ChoiceDelta, WholeText
from glmserve.api.answering.sse import encode_json, named_event
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.anthropic.content import Content
from glmserve.api.anthropic.errors import anthropic_error
from glmserve.api.anthropic.objects import (
    Event,
    MessageDeltaEvent,
    MessageObject,
    MessageStart,
    MessageStop,
    MessageUsage,
    Ping,
    StopDelta,
    StopReason,
)
from glmserve.errors import GlmserveError

_STOP_REASONS: dict[str, StopReason] = {"length": "max_tokens", "tool_calls": "tool_use"}
"""By chat completions' finish reasons; all other reasons end the turn."""


class MessageWriter:
    """Writes a message, streamed or whole."""

    def __init__(self, model: str, max_tokens: int, answering: ChatGeneration) -> None:
        """`max_tokens` are those that the request allows; fewer may fit into the context."""
        self._model = model
        self._max_tokens = max_tokens
        self.generation = answering.generation
        self._answering = answering
        identity = answering.generation.identity
        self._content = Content(identity)
        self._id = identity.new_id("msg_")
        self._has_begun = False
        """Whether the stream has had an event."""

    async def whole(self, texts: Sequence[WholeText]) -> bytes:
        """The message as one JSON body."""
        (answer,) = await run_in_thread_if_large(
            lambda: self._answering.read_whole(texts), self._answering.reading_size(texts)
        )
        self._content.push(answer.events)
        self._content.finish()
        message = self._message()
        message.content = self._content.blocks
        end = self._end(answer.finish_reason)
        message.stop_reason, message.stop_sequence = end.stop_reason, end.stop_sequence
        return encode_json(message)

    def opening(self) -> tuple[bytes, ...]:
        """None: how much of the prompt was cached is known with the first delta."""
        return ()

    def push(self, deltas: Sequence[ChoiceDelta]) -> list[bytes]:
        """The events that follow from new deltas."""
        return [*map(_sent, self._events(deltas))]

    def closing(self) -> Iterator[bytes]:
        """The end of the message."""
        yield _sent(MessageStop())

    def failure(self, error: GlmserveError) -> list[bytes]:
        """The last event of a stream that has failed."""
        return [_sent(anthropic_error(failure_of(error)))]

    def _events(self, deltas: Sequence[ChoiceDelta]) -> Iterator[Event]:
        for delta in map(self._answering.read, deltas):
            if not self._has_begun:
                self._has_begun = True
                message = self._message()
                message.usage.output_tokens = 0  # none is written yet
                yield MessageStart(message)
                yield Ping()
            for event in self._content.push(delta.events):
                yield event
            if delta.finish_reason is not None:
                for event in self._content.finish():
                    yield event
                yield MessageDeltaEvent(self._end(delta.finish_reason), self._usage())

    def _message(self) -> MessageObject:
        return MessageObject(id=self._id, model=self._model, content=[], usage=self._usage())

    def _end(self, reason: str) -> StopDelta:
        stop_string = self.generation.choices[0].text.stop_string
        if stop_string is not None:
            return StopDelta("stop_sequence", stop_string)
        if reason == "length" and self._fewer_fit():
            return StopDelta("model_context_window_exceeded", None)
        return StopDelta(_STOP_REASONS.get(reason, "end_turn"), None)

    def _fewer_fit(self) -> bool:
        """Whether the context has less room than the request allows."""
        return self.generation.choices[0].request.params.max_tokens < self._max_tokens

    def _usage(self) -> MessageUsage:
        usage = self.generation.usage()
        cached = usage.prompt_tokens_details.cached_tokens
        return MessageUsage(usage.prompt_tokens - cached, cached, usage.completion_tokens)


def _sent(event: Event) -> bytes:
    """One event; its name is the type in its data."""
    return named_event(str(event.__struct_config__.tag), event)
