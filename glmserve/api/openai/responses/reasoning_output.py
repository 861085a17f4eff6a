"""The reasoning item of a response while it grows."""

from __future__ import annotations

from glmserve.api.openai.responses.events import (
    ContentPartEvent,
    Event,
    OutputItemEvent,
    ReasoningDeltaEvent,
    ReasoningDoneEvent,
)
from glmserve.api.openai.responses.input_items import ItemStatus
from glmserve.api.openai.responses.objects import OutputItem, ReasoningText, ResponseReasoningItem


class OpenReasoning:
    """Thoughts that are being written.

    Args:
        index: the item's place in the output.
        item_id: its id.
    """

    def __init__(self, index: int, item_id: str) -> None:
        self._index = index
        self._id = item_id
        self._text: list[str] = []

    def begin(self) -> list[Event]:
        """The events before the thoughts."""
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
                part=ReasoningText(""),
            ),
        ]

    def add(self, text: str) -> Event:
        """The event of more thoughts."""
        self._text.append(text)
        return ReasoningDeltaEvent(item_id=self._id, output_index=self._index, delta=text)

    def end(self, status: ItemStatus) -> tuple[list[Event], OutputItem]:
        """The events after the thoughts, and the complete item."""
        part = ReasoningText("".join(self._text))
        item = self._item([part], status)
        events: list[Event] = [
            ReasoningDoneEvent(item_id=self._id, output_index=self._index, text=part.text),
            ContentPartEvent(
                type="response.content_part.done",
                item_id=self._id,
                output_index=self._index,
                part=part,
            ),
            OutputItemEvent(type="response.output_item.done", output_index=self._index, item=item),
        ]
        return events, item

    def _item(self, content: list[ReasoningText], status: ItemStatus) -> ResponseReasoningItem:
        return ResponseReasoningItem(id=self._id, content=content, status=status)
