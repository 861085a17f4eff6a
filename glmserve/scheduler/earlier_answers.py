"""Earlier answers to prompts that begin in the same way, as a source of drafts."""

from __future__ import annotations

from array import array
from collections import OrderedDict

from glmserve.request import Request
from glmserve.scheduler.text_index import LONGEST_MATCH, TextIndex

_BEGINNING = 32
"""Tokens of prompts that must be equal."""
_MAX_GROUPS = 64
_MAX_TOKENS = 4096
"""Of an index; a group has two, so that not everything is forgotten when one is full."""
_END = -1
"""Between two answers. No token is negative, so nothing is found across it."""


class Answers:
    """Answers to prompts that begin in the same way."""

    def __init__(self) -> None:
        self._indexes = [TextIndex(), TextIndex()]  # the newer one first
        self.match_length = 0
        """Tokens that matched in the last call of `continuation`; 0: nothing did."""

    def add(self, tokens: array[int]) -> None:
        """Add an answer, behind the end of its prompt."""
        if len(self._indexes[0].text) + len(tokens) > _MAX_TOKENS:
            self._indexes = [TextIndex(), self._indexes[0]]
        self._indexes[0].text.extend([*tokens, _END])

    def continuation(self, tokens: array[int], count: int) -> list[int]:
        """Up to `count` guesses of the tokens after `tokens`; empty if nothing matches."""
        self.match_length, found = 0, []
        for index in self._indexes:
            match = index.find(tokens) if index.index() else None
            if match is None or match.length <= self.match_length:
                continue
            guesses = index.text[match.position : match.position + count].tolist()
            guesses = guesses[: guesses.index(_END)] if _END in guesses else guesses
            if guesses:
                self.match_length, found = match.length, guesses
        return found


class EarlierAnswers:
    """The answers of a server, by the beginning of their prompts.

    Requests share answers only if they share entries of the prefix cache, so those of other
    tenants and adapters are out of reach.
    """

    def __init__(self) -> None:
        self._groups: OrderedDict[tuple[bytes, bytes], Answers] = OrderedDict()

    def of(self, request: Request) -> Answers:
        """The answers that a request may draft from."""
        key = (request.cache_salt, array("i", request.prompt_ids[:_BEGINNING]).tobytes())
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Answers()
            if len(self._groups) > _MAX_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return group

    def add(self, request: Request) -> None:
        """Keep what a request was answered."""
        if request.num_output_tokens:
            first = max(0, request.num_prompt_tokens - LONGEST_MATCH)
            self.of(request).add(request.token_ids[first:])
