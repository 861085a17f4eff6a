"""Tells what a model thinks from what it answers.

Models that reason write their thoughts first, between the tags `<think>` and `</think>`. Some
prompts end with the first tag, so that the model begins with its thoughts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glmserve.text.partial_match import partial_match_start
from glmserve.text.tokenizer import Tokenizer
from glmserve.text.tools.parser import ToolEvent

OPEN, CLOSE = "<think>", "</think>"

_LAST_TOKENS = 16
"""Tokens of a prompt's end in which the tag is looked for; it has at most 7 characters."""


@dataclass(frozen=True)
class ThoughtDelta:
    """More of what the model thinks; never empty."""

    text: str


AnswerEvent = ThoughtDelta | ToolEvent


def begins_in_thoughts(tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> bool:
    """Whether the prompt ends with the tag that opens thoughts."""
    end = tokenizer.decode(prompt_ids[-_LAST_TOKENS:], skip_special_tokens=False)
    return end.rstrip().endswith(OPEN)


class ThoughtSplitter:
    """Splits one answer into thoughts and the rest, while it arrives in pieces.

    The joined results do not depend on how the text was cut. Whitespace around the thoughts is left
    out, and so is whitespace before the rest.

    Args:
        is_open: the text begins with thoughts. Else it does if it begins with the tag.
        keeps_space: whitespace before the rest belongs to it.
    """

    def __init__(self, *, is_open: bool, keeps_space: bool = False) -> None:
        self._is_open = is_open
        self._keeps_space = keeps_space
        self._held = ""
        self._has_text = False
        """Whether the part that is being read, thoughts or the rest, has begun with a letter."""
        self._read: Callable[[], tuple[str, str]] = self._read_beginning

    @property
    def has_thoughts(self) -> bool:
        """Whether the text so far begins with thoughts."""
        return self._is_open

    @property
    def is_thinking(self) -> bool:
        """Whether the text so far has thoughts that are not closed, or may turn out to have."""
        return self._read != self._read_rest

    def push(self, text: str) -> tuple[str, str]:
        """Add text; returns thoughts, and text of the rest, that can no longer change."""
        self._held += text
        return self._read()

    def flush(self) -> tuple[str, str]:
        """End the text; returns what was held back. Thoughts that are not closed are thoughts."""
        held, self._held = self._held, ""
        if not (self.is_thinking and self._is_open):
            return "", held
        return held.rstrip() if self._has_text else held.strip(), ""

    def _read_beginning(self) -> tuple[str, str]:
        """Whitespace, and the tag. A model may write it although the prompt ends with it."""
        begun = self._held.lstrip()
        if OPEN.startswith(begun) and begun != OPEN:
            return "", ""
        if begun.startswith(OPEN):
            self._is_open, self._held = True, begun.removeprefix(OPEN)
        self._read = self._read_thoughts if self._is_open else self._read_rest
        self._has_text = not self._is_open  # a chat format's filter strips an answer alone
        return self._read()

    def _read_thoughts(self) -> tuple[str, str]:
        if not self._has_text:
            self._held = self._held.lstrip()
            self._has_text = bool(self._held)
        thoughts, closed, rest = self._held.partition(CLOSE)
        if closed:
            self._read, self._held, self._has_text = self._read_rest, rest, self._keeps_space
            return thoughts.rstrip(), self._read()[1]
        end = len(thoughts[: partial_match_start(thoughts, CLOSE)].rstrip())
        self._held = thoughts[end:]
        return thoughts[:end], ""

    def _read_rest(self) -> tuple[str, str]:
        if not self._has_text:
            self._held = self._held.lstrip()
            self._has_text = bool(self._held)
        rest, self._held = self._held, ""
        return "", rest


class ThoughtCounter:
    """Counts the tokens of one answer's thoughts, with those of the tags.

    Args:
        is_open: see ThoughtSplitter.
    """

    def __init__(self, tokenizer: Tokenizer, *, is_open: bool) -> None:
        self._tokenizer = tokenizer
        self._splitter = ThoughtSplitter(is_open=is_open)
        self._num_read = 0

    @property
    def count(self) -> int:
        """Tokens so far; 0 unless the answer begins with thoughts."""
        return self._num_read if self._splitter.has_thoughts else 0

    def push(self, token_ids: Sequence[int]) -> None:
        """Add generated tokens."""
        for token_id in token_ids:
            if not self._splitter.is_thinking:
                return
            self._num_read += 1
            data = self._tokenizer.token_bytes(token_id)
            self._splitter.push(data.decode("latin-1"))  # the tags are ASCII
