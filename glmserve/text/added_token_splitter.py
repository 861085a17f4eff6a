"""Finds added tokens in a text, as Hugging Face's two kinds of tokenizers do."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from glmserve.text.added_tokens import AddedToken

_WORD_CATEGORIES = frozenset({"Nd", "Nl", "Pc"})
"""Besides letters and marks."""
_WORD_CHARACTERS = frozenset("\u200c\u200d") | {chr(code) for code in range(0x24B6, 0x24EA)}
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
"""Unicode's White_Space. Python's str.strip also takes four control characters."""


class _Match(NamedTuple):
    start: int
    end: int
    token: AddedToken


class AddedTokenSplitter(ABC):
    """Splits a text at added tokens. Names of special tokens stay text.

    Args:
        tokens: all added tokens of the vocabulary, special ones included: a token that is a part
            of a special token's name is not found within it.
    """

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        self._tokens = {token.content: token for token in tokens if token.content}

    @abstractmethod
    def split(self, text: str) -> Iterator[str | AddedToken]:
        """Parts of the text that are not empty, and the added tokens between them."""


class PythonSplitter(AddedTokenSplitter):
    """Splits like transformers' PythonBackend, which the family's tokenizers in Python extend."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        super().__init__(tokens)
        self._finder = _Finder(self._tokens.values())

    def split(self, text: str) -> Iterator[str | AddedToken]:
        parts: list[str | AddedToken] = []
        begin = 0
        for match in self._finder.find(text):
            if match.token.special:
                continue
            if match.start > begin:
                parts.append(text[begin : match.start])
            parts.append(match.token)
            begin = match.end
        if begin < len(text):
            parts.append(text[begin:])
        for index in range(len(parts)):
            _apply_options(parts, index)
        return (self._token_of(part) for part in parts if part)

    def _token_of(self, part: str | AddedToken) -> str | AddedToken:
        """The part, or its token: transformers looks a text up once more that was put together from
        a token and what stands beside it."""
        token = self._tokens.get(part) if isinstance(part, str) else None
        return part if token is None or token.special else token


def _apply_options(parts: list[str | AddedToken], index: int) -> None:
    """Apply a token's lstrip, rstrip and single_word to the texts beside it."""
    token = parts[index]
    if not isinstance(token, AddedToken):
        return
    left = parts[index - 1] if index > 0 else ""
    right = parts[index + 1] if index + 1 < len(parts) else ""
    if token.rstrip and isinstance(right, str) and right:
        parts[index + 1] = right.lstrip()
    if token.lstrip and isinstance(left, str) and left:
        parts[index - 1] = left.rstrip()
    if not token.single_word:
        return
    # transformers looks at the texts as they were before they were stripped.
    if _ends_within_word(left):
        parts[index - 1] = _content(parts[index - 1]) + token.content
        parts[index] = ""
    elif _begins_within_word(right):
        parts[index + 1] = token.content + _content(parts[index + 1])
        parts[index] = ""


def _content(part: str | AddedToken) -> str:
    return part.content if isinstance(part, AddedToken) else part


def _ends_within_word(part: str | AddedToken) -> bool:
    return _content(part)[-1:] not in ("", " ")


def _begins_within_word(part: str | AddedToken) -> bool:
    return _content(part)[:1] not in ("", " ")


class RustSplitter(AddedTokenSplitter):
    """Splits like the tokenizers library, which reads tokenizer.json, with its option
    `encode_special_tokens`: two passes, the second one for tokens that are `normalized`."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        super().__init__(tokens)
        known = self._tokens.values()
        passes = [[t for t in known if t.normalized is flag] for flag in (False, True)]
        self._finders = [_Finder(tokens) for tokens in passes if tokens]

    def split(self, text: str) -> Iterator[str | AddedToken]:
        parts: Sequence[str | AddedToken] = [text]
        for finder in self._finders:
            parts = [
                piece
                for part in parts
                for piece in (_cut(part, finder) if isinstance(part, str) else (part,))
            ]
        return (part for part in parts if part)


def _cut(text: str, finder: _Finder) -> Iterator[str | AddedToken]:
    begin = 0
    for start, end, token in finder.find(text):
        if token.special:
            continue
        if token.single_word and (
            (start > 0 and _is_word(text[start - 1])) or (end < len(text) and _is_word(text[end]))
        ):
            continue
        if token.lstrip:
            start = max(len(text[:start].rstrip(_SPACES)), begin)
        if token.rstrip:
            end = len(text) - len(text[end:].lstrip(_SPACES))
        if start > begin:
            yield text[begin:start]
        yield token
        begin = end
    if begin < len(text):
        yield text[begin:]


def _is_word(character: str) -> bool:
    """Whether Rust's `\\w` matches."""
    category = unicodedata.category(character)
    return category[0] in "LM" or category in _WORD_CATEGORIES or character in _WORD_CHARACTERS


class _Finder:
    """Finds tokens from left to right: the longest one at each place, none overlapping."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        self._tokens = {token.content: token for token in tokens}
        self._lengths: dict[str, list[int]] = {}
        for content in sorted(self._tokens, key=len, reverse=True):
            lengths = self._lengths.setdefault(content[0], [])
            if len(content) not in lengths:
                lengths.append(len(content))
        firsts = "".join(re.escape(first) for first in self._lengths)
        self._first = re.compile(f"[{firsts}]" if firsts else "(?!)")

    def find(self, text: str) -> Iterator[_Match]:
        start = 0
        while candidate := self._first.search(text, start):
            start = candidate.start()
            for length in self._lengths[candidate[0]]:
                token = self._tokens.get(text[start : start + length])
                if token is not None:
                    yield _Match(start, start + length, token)
                    start += length
                    break
            else:
                start += 1
