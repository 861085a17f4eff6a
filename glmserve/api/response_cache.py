"""Answers kept for requests that come again, word for word.

For demonstrations and for clients that retry: a request is only answered from here once the cache
holds as many answers to it as it may (--cache-list-size), and then with one of them at random. An
answer is never given to another API key than the one it was made for.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import NamedTuple

LONGEST_ANSWER = 2**20
"""Bytes of an answer; longer ones are not kept."""


class Answer(NamedTuple):
    """A complete response, streamed or not."""

    body: bytes
    media_type: str


class ResponseCache:
    """Least recently used requests are forgotten first.

    Args:
        size: requests to remember.
        list_size: answers to each.
    """

    def __init__(self, size: int, list_size: int) -> None:
        self._size = size
        self._list_size = list_size
        self._answers: OrderedDict[bytes, list[Answer]] = OrderedDict()
        self._random = random.Random()

    def find(self, key: bytes) -> Answer | None:
        """One of the answers, if there are enough of them."""
        answers = self._answers.get(key)
        if answers is None or len(answers) < self._list_size:
            return None
        self._answers.move_to_end(key)
        return self._random.choice(answers)

    def add(self, key: bytes, answer: Answer) -> None:
        """Keep an answer, unless there are enough already."""
        if len(answer.body) > LONGEST_ANSWER:
            return
        answers = self._answers.setdefault(key, [])
        self._answers.move_to_end(key)
        if len(answers) < self._list_size:
            answers.append(answer)
        if len(self._answers) > self._size:
            self._answers.popitem(last=False)
