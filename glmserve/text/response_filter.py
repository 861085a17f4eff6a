"""What the models' own chat functions do to a response, made to work on a stream.

Each filter takes pieces of text and gives back what is settled; joined with `flush`, the result is
what the whole response would have become. Only leading whitespace is removed: upstream's strip()
also cuts trailing blanks, which no reader sees and which a stream would have to delay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from glmserve.text.partial_match import partial_match_start


class ResponseFilter(Protocol):
    """A streaming rewrite of response text."""

    def push(self, text: str) -> str:
        """The text that is settled now."""
        ...

    def flush(self) -> str:
        """What was held back, at the end of the response."""
        ...


class FilterChain:
    """Filters one after another; without any, text passes unchanged."""

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

    ChatGLM3 and GLM-4 open an answer with their metadata line, a bare newline where no tool is
    called, so this removes that line too.
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
    """Puts a year where the model writes its placeholder for the end of its training data."""

    PLACEHOLDER = "[[训练时间]]"
    YEAR = "2023年"

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        text = (self._held + text).replace(self.PLACEHOLDER, self.YEAR)
        hold_from = partial_match_start(text, self.PLACEHOLDER)
        self._held = text[hold_from:]
        return text[:hold_from]

    def flush(self) -> str:
        text, self._held = self._held, ""
        return text


class FullWidthPunctuation:
    """Makes ASCII punctuation next to a Chinese character full-width again (ChatGLM-6B only).

    Its tokenizer normalises full-width forms away, so its chat function puts them back.
    """

    _MARKS = str.maketrans(",!:;?", "，！：；？")
    _BESIDE_CHINESE = re.compile(r"(?<=[\u4e00-\u9fff])[,!:;?]|[,!:;?](?=[\u4e00-\u9fff])")

    __slots__ = ("_before", "_held")

    def __init__(self) -> None:
        self._before = ""
        """The last character given back, as it came in: the left neighbour of what follows."""
        self._held = ""
        """A mark whose right neighbour decides, and has not come yet."""

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
