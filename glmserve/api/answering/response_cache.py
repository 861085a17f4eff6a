"""Keeps answers for requests that come again, word for word.

For demonstrations and for clients that retry. The cache answers a request once it holds
--cache-list-size answers to it, and then with one of them at random. It never gives an answer to
another API key than the one that the answer was made for.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from glmserve.api.answering.caller import Caller
from glmserve.api.protocol import StrictModel

JSON, EVENT_STREAM = "application/json", "text/event-stream"

LONGEST_ANSWER = 2**20
"""Bytes of an answer; longer ones are not kept."""


class KeptAnswer(NamedTuple):
    """A complete response, streamed or not."""

    body: bytes
    media_type: str
    headers: tuple[tuple[str, str], ...] = ()
    """Those that belong to the answer itself."""


class KeptEvents:
    """Collects the events of a stream while they are sent.

    Args:
        keep: called with all of them when the stream has come to its own end, unless they are long.
    """

    def __init__(self, keep: Callable[[KeptAnswer], None]) -> None:
        self._keep = keep
        self._events: list[bytes] = []
        self._size = 0

    def add(self, events: Sequence[bytes], *, is_end: bool) -> None:
        """Add the next events.

        Args:
            is_end: they are the last.
        """
        self._size += sum(map(len, events))
        if self._size > LONGEST_ANSWER:
            self._events.clear()
            return
        self._events += events
        if is_end:
            self._keep(KeptAnswer(b"".join(self._events), EVENT_STREAM))


class ResponseCache:
    """Least recently used requests are forgotten first.

    Args:
        size: requests to remember.
        list_size: answers to each.
    """

    def __init__(self, size: int, list_size: int) -> None:
        self._size = size
        self._list_size = list_size
        self._answers: OrderedDict[bytes, list[KeptAnswer]] = OrderedDict()
        self._random = random.Random()

    def find(self, key: bytes) -> KeptAnswer | None:
        """One of the answers, if there are enough of them."""
        answers = self._answers.get(key)
        if answers is None or len(answers) < self._list_size:
            return None
        self._answers.move_to_end(key)
        return self._random.choice(answers)

    def add(self, key: bytes, answer: KeptAnswer) -> None:
        """Keep an answer, unless there are enough already."""
        if len(answer.body) > LONGEST_ANSWER:
            return
        answers = self._answers.setdefault(key, [])
        self._answers.move_to_end(key)
        if len(answers) < self._list_size:
            answers.append(answer)
        if len(self._answers) > self._size:
            self._answers.popitem(last=False)


_WITHOUT_EFFECT = {"priority"}
"""Fields that change nothing about the answer."""


def cache_key(caller: Caller, path: str, request: StrictModel, adapter: str = "") -> bytes:
    """A hash of everything that an answer depends on.

    Args:
        adapter: digest of the adapter that the request's model means now; empty: none.
    """
    # Without defaults: that a field was sent may itself show in the answer, as service_tier does.
    content = request.model_dump_json(exclude=_WITHOUT_EFFECT, exclude_unset=True)
    text = f"{caller.key_id or ''}\n{path}\n{adapter}\n{content}"
    return blake2b(text.encode(), digest_size=32).digest()
