"""The output of a response while it grows: its items, and the events that report them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import UNSET

from glmserve.api.journaling.identity import Identity
from glmserve.api.openai.chat_objects import ContentLogprob
from glmserve.api.openai.logprobs import ChatLogprobs
from glmserve.api.openai.responses.events import (
    ArgumentsDeltaEvent,
    ArgumentsDoneEvent,
    ContentPartEvent,
    Event,
    EventLogprob,
    EventTopLogprob,
    OutputItemEvent,
    TextDeltaEvent,
    TextDoneEvent,
)
from glmserve.api.openai.responses.input_items import ItemStatus
from glmserve.api.openai.responses.objects import (
    OutputItem,
    OutputText,
    ResponseFunctionCall,
    ResponseMessage,
)
from glmserve.api.openai.responses.reasoning_output import OpenReasoning
from glmserve.api.openai.responses.tools import FunctionName, Functions
from glmserve.text.text_assembler import ScoredToken
from glmserve.text.thoughts import AnswerEvent, ThoughtDelta
from glmserve.text.tools import ArgumentsDelta, CallStarted, ContentDelta


class Output:
    """Items in the order in which they are generated, one at a time.

    Args:
        identity: makes the ids of items and calls.
        functions: those that the model may call.
        logprobs: None if the request wants none.
    """

    def __init__(
        self, identity: Identity, functions: Functions, logprobs: ChatLogprobs | None
    ) -> None:
        self._identity = identity
        self._functions = functions
        self.items: list[OutputItem] = []
        """The complete items."""
        self._logprobs = logprobs
        self._open: _Message | _Call | OpenReasoning | None = None

    def push(self, events: Iterable[AnswerEvent], scored: Sequence[ScoredToken]) -> list[Event]:
        """Add what is new; the events that report it."""
        told: list[Event] = []
        logprobs = self._logprobs.push(scored).content if self._logprobs and scored else []
        for event in events:
            match event:
                case ThoughtDelta(text):
                    told += self._add_thoughts(text)
                case ContentDelta(text):
                    told += self._add_text(text, logprobs)
                    logprobs = []
                case CallStarted(_, name):
                    told += self._begin(self._new_call(name))
                case ArgumentsDelta(_, text):
                    assert isinstance(self._open, _Call)
                    told.append(self._open.add(text))
        if logprobs and not isinstance(self._open, OpenReasoning):  # of tokens without own text
            told += self._add_text("", logprobs)
        return told

    def finish(self, status: ItemStatus) -> list[Event]:
        """End the last item. An answer without any but thoughts is an empty message, unless it was
        cut within them."""
        is_cut = isinstance(self._open, OpenReasoning) and status == "incomplete"
        has_answer = isinstance(self._open, _Message | _Call)
        told = [] if has_answer or is_cut else self._add_text("", [])
        return [*told, *self._end(status)]

    def _add_text(self, text: str, logprobs: list[ContentLogprob]) -> list[Event]:
        told: list[Event] = []
        if not isinstance(self._open, _Message):
            index = len(self.items) + bool(self._open)
            told = self._begin(_Message(index, self._identity.new_id("msg_")))
            assert isinstance(self._open, _Message)
        if text or logprobs:
            told.append(self._open.add(text, logprobs))
        return told

    def _add_thoughts(self, text: str) -> list[Event]:
        told: list[Event] = []
        if not isinstance(self._open, OpenReasoning):
            index = len(self.items) + bool(self._open)
            told = self._begin(OpenReasoning(index, self._identity.new_id("rs_")))
            assert isinstance(self._open, OpenReasoning)
        told.append(self._open.add(text))
        return told

    def _new_call(self, name: str) -> _Call:
        index = len(self.items) + bool(self._open)
        item_id, call_id = self._identity.new_id("fc_"), self._identity.new_call_id()
        return _Call(index, item_id, call_id, self._functions.name(name))

    def _begin(self, item: _Message | _Call | OpenReasoning) -> list[Event]:
        told = self._end("completed")
        self._open = item
        return [*told, *item.begin()]

    def _end(self, status: ItemStatus) -> list[Event]:
        if self._open is None:
            return []
        events, item = self._open.end(status)
        self.items.append(item)
        self._open = None
        return events


class _Message:
    """A message that is being written."""

    def __init__(self, index: int, item_id: str) -> None:
        self._index = index
        self._id = item_id
        self._text: list[str] = []
        self._logprobs: list[ContentLogprob] = []

    def begin(self) -> list[Event]:
        return [
            OutputItemEvent(
                type="response.output_item.added",
                output_index=self._index,
                item=self._item([], "in_progress"),
            ),
            ContentPartEvent(
                type="response.content_part.added",
                item_id=self._id,
                output_index=self._index,
                part=OutputText(""),
            ),
        ]

    def add(self, text: str, logprobs: list[ContentLogprob]) -> Event:
        self._text.append(text)
        self._logprobs += logprobs
        return TextDeltaEvent(
            item_id=self._id,
            output_index=self._index,
            delta=text,
            logprobs=_event_logprobs(logprobs),
        )

    def end(self, status: ItemStatus) -> tuple[list[Event], OutputItem]:
        part = OutputText("".join(self._text), logprobs=self._logprobs)
        item = self._item([part], status)
        events: list[Event] = [
            TextDoneEvent(
                item_id=self._id,
                output_index=self._index,
                text=part.text,
                logprobs=_event_logprobs(self._logprobs),
            ),
            ContentPartEvent(
                type="response.content_part.done",
                item_id=self._id,
                output_index=self._index,
                part=part,
            ),
            OutputItemEvent(type="response.output_item.done", output_index=self._index, item=item),
        ]
        return events, item

    def _item(self, content: Sequence[OutputText], status: ItemStatus) -> ResponseMessage:
        return ResponseMessage(id=self._id, role="assistant", status=status, content=[*content])


class _Call:
    """A call that is being written."""

    def __init__(self, index: int, item_id: str, call_id: str, name: FunctionName) -> None:
        self._index = index
        self._name = name
        self._id = item_id
        self._call_id = call_id
        self._arguments: list[str] = []

    def begin(self) -> list[Event]:
        return [
            OutputItemEvent(
                type="response.output_item.added",
                output_index=self._index,
                item=self._item("in_progress"),
            )
        ]

    def add(self, text: str) -> Event:
        self._arguments.append(text)
        return ArgumentsDeltaEvent(item_id=self._id, output_index=self._index, delta=text)

    def end(self, status: ItemStatus) -> tuple[list[Event], OutputItem]:
        item = self._item(status)
        events: list[Event] = [
            ArgumentsDoneEvent(
                item_id=self._id, output_index=self._index, arguments=item.arguments
            ),
            OutputItemEvent(type="response.output_item.done", output_index=self._index, item=item),
        ]
        return events, item

    def _item(self, status: ItemStatus) -> ResponseFunctionCall:
        return ResponseFunctionCall(
            id=self._id,
            status=status,
            call_id=self._call_id,
            name=self._name.name,
            namespace=UNSET if self._name.namespace is None else self._name.namespace,
            arguments="".join(self._arguments),
        )


def _event_logprobs(logprobs: Iterable[ContentLogprob]) -> list[EventLogprob]:
    """In events they are without bytes."""
    return [
        EventLogprob(
            one.token,
            one.logprob,
            [EventTopLogprob(top.token, top.logprob) for top in one.top_logprobs],
        )
        for one in logprobs
    ]
