"""Keeps responses that later requests may retrieve or continue, as long as there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from glmserve.api.openai.responses.objects import Item
from glmserve.errors import GlmserveError, InvalidRequestError

MAX_BYTES = 256 * 2**20
"""Of all stored responses together, as JSON."""

_encode = msgspec.json.Encoder().encode


class ResponseNotFoundError(GlmserveError):
    """404: the response does not exist, belongs to another API key, or has been forgotten."""

    http_status = 404
    error_type = "invalid_request_error"


class PreviousResponseNotFoundError(InvalidRequestError):
    """400: the response to continue does not exist."""

    code = "previous_response_not_found"


@dataclass(frozen=True)
class StoredResponse:
    """A response, and the conversation that it answers.

    Attributes:
        body: the response as JSON.
        input: items that it answers, those of earlier turns included.
        output: items of its answer.
    """

    body: bytes
    input: Sequence[Item]
    output: Sequence[Item]

    @property
    def size(self) -> int:
        """Bytes, as JSON. Earlier turns count in full, although responses share them."""
        return len(self.body) + sum(len(_encode(item)) for item in self.input)


class ResponseStore:
    """Keeps responses in memory, the least recently used of them go first.

    Every response belongs to an owner; for others it does not exist.

    Args:
        max_responses: 0 keeps none.
        max_bytes: see StoredResponse.size.
    """

    def __init__(self, max_responses: int, max_bytes: int = MAX_BYTES) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[tuple[str | None, str], tuple[StoredResponse, int]] = (
            OrderedDict()
        )
        self._items: dict[tuple[str | None, str], tuple[Item, int]] = {}
        """By owner and id: an item, and how many responses have it."""

    @property
    def is_on(self) -> bool:
        return self._max_responses > 0

    def add(self, owner: str | None, response_id: str, response: StoredResponse) -> None:
        """Keep a response and forget the oldest ones; not if it is larger than the store."""
        size = response.size
        if size > self._max_bytes:
            return
        self.remove(owner, response_id)  # a recorded response may end twice
        self._entries[owner, response_id] = response, size
        self._count_items(owner, response, 1)
        self._num_bytes += size
        while len(self._entries) > self._max_responses or self._num_bytes > self._max_bytes:
            (of, _), (oldest, freed) = self._entries.popitem(last=False)
            self._count_items(of, oldest, -1)
            self._num_bytes -= freed

    def find(self, owner: str | None, response_id: str) -> StoredResponse | None:
        """The response, which becomes the most recently used."""
        entry = self._entries.get((owner, response_id))
        if entry is None:
            return None
        self._entries.move_to_end((owner, response_id))
        return entry[0]

    def find_item(self, owner: str | None, item_id: str) -> Item | None:
        """An item of any of the owner's responses, or of their input; the newest of this id."""
        found = self._items.get((owner, item_id))
        return found[0] if found else None

    def remove(self, owner: str | None, response_id: str) -> bool:
        """Forget it; False if there was none."""
        entry = self._entries.pop((owner, response_id), None)
        if entry is None:
            return False
        response, size = entry
        self._count_items(owner, response, -1)
        self._num_bytes -= size
        return True

    def _count_items(self, owner: str | None, response: StoredResponse, step: int) -> None:
        """Note that one response more, or less, has these items."""
        for item in (*response.input, *response.output):
            known, count = self._items.get((owner, item.id), (item, 0))
            if count + step:
                newest = item if step > 0 else known
                self._items[owner, item.id] = newest, count + step
            else:
                del self._items[owner, item.id]
