"""The languages of the report, and messages in them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""The first one that is set counts, as in POSIX."""


class Language(Enum):
    """A language of the report."""

    ENGLISH = "en"
    CHINESE = "zh"


class Message(NamedTuple):
    """A text in every language. {names} are placeholders for values."""

    english: str
    chinese: str

    def say(self, language: Language, **values: object) -> str:
        """The text with its values."""
        text = self.chinese if language is Language.CHINESE else self.english
        return text.format(**values)


def choose_language(environment: Mapping[str, str], encoding: str | None) -> Language:
    """The language of the locale, or English if the output cannot write it.

    Args:
        environment: the environment variables.
        encoding: encoding of the output.
    """
    locale = next(filter(None, map(environment.get, _VARIABLES)), "")
    if locale.startswith("zh") and _can_write_chinese(encoding or "ascii"):
        return Language.CHINESE
    return Language.ENGLISH


def _can_write_chinese(encoding: str) -> bool:
    try:
        "中文，：（）".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
