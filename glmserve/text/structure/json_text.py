"""Rules for JSON that a grammar cannot express.

No name repeats in an object, numbers are finite, and in some arrays no string repeats.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum

from glmserve.text.structure.vocabulary import packed_bits

MAX_DIGITS = 300
"""Digits of one number, so that it is a finite double and within the limit of Python's int()."""

_QUOTE, _BACKSLASH = b'"\\'
_DIGITS = frozenset(b"0123456789")
_NUMBER = frozenset(b"0123456789+-.eE")


class JsonUse(Enum):
    """Which texts of a structure are one JSON value."""

    NONE = "none"
    IF_OPENED = "if opened"
    """Those that begin with a brace or a bracket."""
    ALL = "all"


UniqueStrings = tuple[tuple[bytes, tuple[bytes, ...] | None], ...]
"""Names of properties whose arrays have different strings, and the only strings, if they are
listed. All are spelt as in the text, without quotes."""


def unique_strings(unique: Mapping[str, Sequence[str] | None]) -> UniqueStrings:
    """Names and strings as they are spelt in JSON text."""
    return tuple(
        (_spelt(name), None if strings is None else tuple(map(_spelt, strings)))
        for name, strings in unique.items()
    )


def _spelt(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()


def tracked(use: JsonUse, beginning: bytes, unique: UniqueStrings = ()) -> JsonText | None:
    """A tracker for a text that begins with these bytes, or None if it needs none.

    Args:
        beginning: more than whitespace.
    """
    is_opened = beginning.lstrip()[:1] in (b"{", b"[")
    if use is JsonUse.NONE or (use is JsonUse.IF_OPENED and not is_opened):
        return None
    text = JsonText(unique)
    text.push(beginning)
    return text


class _Container:
    """An open object or array."""

    __slots__ = ("is_array", "listed", "names")

    def __init__(
        self,
        names: set[bytes] | None,
        *,
        is_array: bool,
        listed: tuple[bytes, ...] | None = None,
    ) -> None:
        self.names = names
        """The keys of an object, or the strings of an array of different ones, so far."""
        self.is_array = is_array
        self.listed = listed
        """The only strings that the array may have."""

    def copy(self) -> _Container:
        names = None if self.names is None else set(self.names)
        return _Container(names, is_array=self.is_array, listed=self.listed)

    def may_begin(self, key: bytes) -> bool:
        """Whether a string that is left begins like this."""
        names = self.names or ()
        return self.listed is None or any(
            string.startswith(key) and string not in names for string in self.listed
        )


class JsonText:
    """Tracks the state of well-formed JSON text while it is written.

    Keys are compared as bytes, because the grammar allows one spelling for each. Exponents are
    refused: 1e999 would be infinite, and every finite value can be written without one. In an array
    of different strings, each string is treated as a key.
    """

    __slots__ = ("_after_backslash", "_digits", "_in_string", "_is_key", "_key", "_open", "_unique")

    def __init__(self, unique: UniqueStrings = ()) -> None:
        self._unique = dict(unique)
        self._open: list[_Container] = []
        self._in_string = False
        self._after_backslash = False
        self._is_key = False
        """Whether the open string, or else the next one, is a key."""
        self._key = b""
        """The bytes of the open key, or of the last one before a value that is no string."""
        self._digits = 0
        """Digits of the open number."""

    def copy(self) -> JsonText:
        """An independent copy."""
        other = JsonText()
        other._unique = self._unique
        other._open = [container.copy() for container in self._open]
        other._in_string, other._after_backslash = self._in_string, self._after_backslash
        other._is_key, other._key = self._is_key, self._key
        other._digits = self._digits
        return other

    @property
    def in_string(self) -> bool:
        """Whether a string is open."""
        return self._in_string

    @property
    def is_item(self) -> bool:
        """Whether the open string, or else the next one, is in an array of different strings."""
        return self._is_key and bool(self._open) and self._open[-1].is_array

    @property
    def is_listed(self) -> bool:
        """Whether that array has only strings of a list."""
        return self.is_item and self._open[-1].listed is not None

    @property
    def is_number_full(self) -> bool:
        """Whether the open number has MAX_DIGITS digits."""
        return self._digits >= MAX_DIGITS

    def duplicate_key_endings(self) -> list[bytes]:
        """The bytes, with the closing quote, that would make the open key repeat another."""
        if not (self._in_string and self._is_key and self._open):
            return []
        names, written = self._open[-1].names or (), len(self._key)
        return [key[written:] + b'"' for key in names if key.startswith(self._key)]

    def push(self, data: bytes) -> bool:
        """Add bytes; returns False if they repeat a key or contain an exponent."""
        # Most tokens are plain text within a string.
        if (
            self._in_string
            and not self._after_backslash
            and _QUOTE not in data
            and _BACKSLASH not in data
        ):
            if self._is_key:
                self._key += data
                return self._open[-1].may_begin(self._key)
            return True
        accepted = True
        for byte in data:
            accepted &= self._push_byte(byte)
        if self._in_string and self._is_key:
            accepted &= self._open[-1].may_begin(self._key)
        return accepted

    def _push_byte(self, byte: int) -> bool:
        if self._in_string:
            return self._push_within_string(byte)
        if byte in _NUMBER and (self._digits or byte in _DIGITS):
            self._digits += byte in _DIGITS
            return byte not in b"eE"
        self._digits = 0
        match chr(byte):
            case '"':
                self._in_string, self._key = True, b""
            case "{":
                self._push_container(_Container(set(), is_array=False))
            case "[":
                self._push_container(self._new_array())
            case "}" | "]":
                self._open.pop()
            case ",":
                self._is_key = self._open[-1].names is not None
            case ":":
                self._is_key = False
        return True

    def _push_container(self, container: _Container) -> None:
        self._open.append(container)
        self._is_key = container.names is not None

    def _new_array(self) -> _Container:
        is_member = bool(self._open) and not self._open[-1].is_array
        if is_member and self._key in self._unique:
            return _Container(set(), is_array=True, listed=self._unique[self._key])
        return _Container(None, is_array=True)

    def _push_within_string(self, byte: int) -> bool:
        if byte == _QUOTE and not self._after_backslash:
            self._in_string = False
            return self._close_key() if self._is_key else True
        self._after_backslash = byte == _BACKSLASH and not self._after_backslash
        if self._is_key:
            self._key += bytes([byte])
        return True

    def _close_key(self) -> bool:
        names = self._open[-1].names
        assert names is not None
        is_new = self._key not in names
        names.add(self._key)
        return is_new


class JsonGuard:
    """Removes from a mask the tokens that JsonText refuses.

    Only tokens that may be refused are tried: a few dozen of a vocabulary of 65,000, and the tokens
    that would complete a repeated key, which are found by binary search.
    """

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._tokens = tokens
        self._tokens_with_quote = sorted(
            (data, i) for i, data in enumerate(tokens) if _QUOTE in data
        )
        self._in_string = self._bits(_may_hold_key)
        """Tokens that may be refused within a string, apart from those that complete its key."""
        self._outside = self._in_string | self._bits(_may_hold_exponent)
        """Tokens that may be refused outside of strings."""
        self._opening_with_digit = self._bits(lambda data: data[:1].isdigit())

    def restrict(self, mask: bytes, text: JsonText) -> bytes:
        """The mask without refused tokens.

        If no token would remain, the mask stays as it is, because a mask without tokens cannot be
        sampled. In an array of different strings it becomes empty instead.
        """
        bits = int.from_bytes(mask, "little")
        refused = 0
        for token_id in self._candidates(bits, text):
            if not text.copy().push(self._tokens[token_id]):
                refused |= 1 << token_id
        if text.is_number_full:
            refused |= bits & self._opening_with_digit
        remaining = bits & ~refused
        if not refused or not (remaining or text.is_item):
            return mask
        return remaining.to_bytes(len(mask), "little")

    def _candidates(self, bits: int, text: JsonText) -> Iterator[int]:
        if text.is_listed:  # then the grammar leaves few tokens
            yield from _set_bits(bits)
            return
        yield from _set_bits(bits & (self._in_string if text.in_string else self._outside))
        for ending in text.duplicate_key_endings():
            start = bisect_left(self._tokens_with_quote, ending, key=lambda pair: pair[0])
            for data, token_id in self._tokens_with_quote[start:]:
                if not data.startswith(ending):
                    break
                if bits >> token_id & 1:
                    yield token_id

    def _bits(self, is_included: Callable[[bytes], bool]) -> int:
        ids = (i for i, data in enumerate(self._tokens) if data and is_included(data))
        return int.from_bytes(packed_bits(ids, len(self._tokens)), "little")


_HAS_EXPONENT = re.compile(rb"[0-9][eE]").search


def _may_hold_key(data: bytes) -> bool:
    """Whether a token may contain a whole key, or end a string and contain an exponent."""
    return data.count(b'"') >= 2 or bool(_HAS_EXPONENT(data.partition(b'"')[2]))


def _may_hold_exponent(data: bytes) -> bool:
    return data[:1] in (b"e", b"E") or bool(_HAS_EXPONENT(data.partition(b'"')[0]))


def _set_bits(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
