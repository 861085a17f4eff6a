"""The publisher's post-processing of responses, applied to a stream.

A filter takes pieces of text and returns the text that can no longer change. All results joined
equal the processed whole response. Only leading whitespace is removed: upstream's strip() also cuts
trailing blanks, which readers do not see and a stream would have to delay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from glmserve.text.partial_match import partial_match_start


class ResponseFilter(Protocol):
    """A streaming rewrite of response text."""

    def push(self, text: str) -> str:
        """Add text; returns the text that can no longer change."""
        ...

    def flush(self) -> str:
        """End the response; returns the text that was held back."""
        ...


class FilterChain:
    """Applies filters in order. Without filters, text passes unchanged."""

    __slots__ = ("_filters",)

    def __init__(self, filters: Sequence[ResponseFilter] = ()) -> None:
        self._filters = tuple(filters)

    def push(self, text: str) -> str:
        for stage in self._filters:
            text = stage.push(text)
        return text

    def flush(self) -> str:
        text = ""
        for stage in self._filters:
            text = stage.push(text) + stage.flush()
        return text


class StripLeading:
    """Drops whitespace before the first visible character.

    ChatGLM3 and GLM-4 begin an answer with their metadata line, which is empty if no tool is
    called. So this removes that line too.
    """

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = False

    def push(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text

    def flush(self) -> str:
        return ""


class ReplaceTrainingDate:
    """Replaces the model's placeholder for the end of its training data by a year."""

    PLACEHOLDER = "[[训练时间]]"
    YEAR = "2023年"

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        if not self._held and self.PLACEHOLDER[0] not in text:
            return text
        text = (self._held + text).replace(self.PLACEHOLDER, self.YEAR)
        hold_from = partial_match_start(text, self.PLACEHOLDER)
        self._held = text[hold_from:]
        return text[:hold_from]

    def flush(self) -> str:
        text, self._held = self._held, ""
        return text


class FullWidthPunctuation:
    """Makes ASCII punctuation next to a Chinese character full-width again (ChatGLM-6B only).

    Its tokenizer normalises full-width forms, and its chat function restores them.
    """

    _MARKS = str.maketrans(",!:;?", "，！：；？")
    _BESIDE_CHINESE = re.compile(r"(?<=[\u4e00-\u9fff])[,!:;?]|[,!:;?](?=[\u4e00-\u9fff])")

    __slots__ = ("_before", "_held")

    def __init__(self) -> None:
        self._before = ""
        """The last returned character before its replacement: left neighbour of the next text."""
        self._held = ""
        """A punctuation mark that waits for its right neighbour, which decides its form."""

    def push(self, text: str) -> str:
        if not text:
            return ""
        text = self._before + self._held + text
        undecided = text[-1] in ",!:;?" and not "\u4e00" <= text[-2:-1] <= "\u9fff"
        self._held = text[-1] if undecided else ""
        if undecided:
            text = text[:-1]
        settled = self._BESIDE_CHINESE.sub(lambda mark: mark[0].translate(self._MARKS), text)
        settled = settled[len(self._before) :]
        self._before = text[-1:]
        return settled

    def flush(self) -> str:
        text, self._held = self._held, ""
        return text
