"""Articles with the summaries that people wrote of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from glmserve.config import EMBEDDED_CHECKPOINT
from glmserve.errors import OptionError
from glmserve.evaluation.language import is_chinese

LETTERS = EMBEDDED_CHECKPOINT.parent / "evaluation" / "letters.jsonl"
"""The articles that ship with glmserve: letters that end with a question, and what glm-tiny was
trained to say to such a question."""

PLACE = "{article}"
"""Stands for the article in a request."""
_ENGLISH = f"Summarize the following text in two or three sentences.\n\n{PLACE}"
_CHINESE = f"请用两三句话概括下面的文字。\n\n{PLACE}"

_ARTICLE = ("article", "document", "content", "text")
_REFERENCE = ("reference", "summary", "highlights")
"""Names of fields, as in the usual collections."""


@dataclass(frozen=True)
class Article:
    """A text, and a summary of it that counts as right."""

    text: str
    reference: str

    def request(self, template: str | None = None) -> str:
        """What the user says to get a summary.

        Args:
            template: a text with PLACE; None: a request in the article's language.
        """
        if template is None:
            template = _CHINESE if is_chinese(self.text) else _ENGLISH
        return template.replace(PLACE, self.text)


def read_articles(path: Path, most: int | None = None) -> list[Article]:
    """The articles of a file in JSON Lines; empty lines are left out.

    Args:
        most: read no more than so many; None: all.

    Raises:
        OptionError: the file cannot be read, or a line has no article or no reference.
    """
    articles: list[Article] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    articles.append(_article(f"{path}, line {number}", line))
                if len(articles) == most:
                    break
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None
    if not articles:
        raise OptionError(f"{path}: has no article")
    return articles


def _article(place: str, line: bytes) -> Article:
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise OptionError(f"{place}: is no JSON object: {error}") from None
    return Article(_text(place, fields, _ARTICLE), _text(place, fields, _REFERENCE))


def _text(place: str, fields: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first of these fields."""
    for name in names:
        if name in fields:
            value = fields[name]
            if not isinstance(value, str) or not value.strip():
                raise OptionError(f"{place}: {name} must be a text that is not empty")
            return value
    raise OptionError(f"{place}: has no field {names[0]!r} (or {', '.join(names[1:])})")
