"""Keeps users' texts apart from what a template writes around them.

A template is rendered twice: with the texts, and with a placeholder for each. The second rendering
shows which parts are the template's own. Only in these does the name of a special token mean the
token. The first rendering shows whether the template changes the texts.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from glmserve.text.tokenizer import Tokenizer


class Piece(NamedTuple):
    """A part of a rendered conversation."""

    text: str
    is_users: bool = False
    """A text that was put in; names of special tokens in it are text."""


class Placeholders:
    """Placeholders for the texts of one conversation. They are letters and digits, which templates
    leave as they are, and cannot be guessed."""

    def __init__(self) -> None:
        self._key = f"x{secrets.token_hex(8)}n"
        self._texts: list[str] = []

    def stand_for(self, text: str) -> str:
        """A placeholder for a text. An empty text is its own, because templates ask for it."""
        if not text:
            return text
        self._texts.append(text)
        return f"{self._key}{len(self._texts) - 1}z"

    def pieces(self, marked: str, plain: str) -> tuple[list[Piece], bool] | None:
        """The parts of the rendering `plain`, and whether a text lost whitespace at its ends.

        Args:
            marked: the rendering with placeholders.

        Returns:
            None if the template changes texts in other ways, or writes them differently.
        """
        pieces: list[Piece] = []
        is_trimmed = False
        position = 0
        parts = re.split(f"{self._key}([0-9]+)z", marked)
        for index, part in enumerate(parts):
            if index % 2 == 0:
                text = part
            else:
                whole = self._texts[int(part)]
                follows = parts[index + 1]
                found = _written(whole, plain, position, follows)
                if found is None:
                    return None
                text = found
                is_trimmed = is_trimmed or text not in (whole, _in_json(whole))
            if not plain.startswith(text, position):
                return None
            position += len(text)
            pieces.append(Piece(text, is_users=index % 2 == 1))
        return (pieces, is_trimmed) if position == len(plain) else None


def _written(text: str, plain: str, position: int, follows: str) -> str | None:
    """What the template made of a text at this position: the text, as it is within JSON, or without
    outer whitespace."""
    for candidate in (text, _in_json(text), text.strip(), text.lstrip(), text.rstrip()):
        if plain.startswith(candidate, position) and plain.startswith(
            follows, position + len(candidate)
        ):
            return candidate
    return None


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


class PromptEncoder:
    """Encodes rendered conversations: names of special tokens in a template's parts are tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: Mapping[str, int] = tokenizer.special_ids
        names = sorted(map(_pattern, self._ids), key=len, reverse=True)
        self._names = re.compile("|".join(names))

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Token ids. Text between two special tokens is encoded as a whole."""
        ids: list[int] = []
        text = ""
        for part in self._parts(pieces):
            if isinstance(part, str):
                text += part
                continue
            if text:
                ids += self._tokenizer.encode(text)
            ids.append(part)
            text = ""
        return ids + self._tokenizer.encode(text) if text else ids

    def names(self, text: str) -> list[str]:
        """The names of special tokens in a text, in order."""
        return self._names.findall(text)

    def _parts(self, pieces: Sequence[Piece]) -> Iterator[str | int]:
        for piece in pieces:
            if piece.is_users:
                yield piece.text
                continue
            begin = 0
            for match in self._names.finditer(piece.text):
                yield piece.text[begin : match.start()]
                yield self._ids[match[0]]
                begin = match.end()
            yield piece.text[begin:]


def _pattern(name: str) -> str:
    """A regex of a special token's name. One that is a word, such as "sop", counts only directly
    behind another token, because texts may contain it."""
    return rf"(?<=[\]>]){re.escape(name)}" if name.isalnum() else re.escape(name)
