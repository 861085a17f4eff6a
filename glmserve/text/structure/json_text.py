"""What a grammar cannot say about JSON: names do not repeat, and numbers stay finite."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from glmserve.text.structure.vocabulary import packed_bits

MAX_DIGITS = 300
"""Of one number, so that it is a finite double and within what Python's int() reads."""

_QUOTE, _BACKSLASH = b'"\\'
_DIGITS = frozenset(b"0123456789")
_NUMBER = frozenset(b"0123456789+-.eE")


class JsonText:
    """Follows JSON text that is known to be well-formed so far.

    Names are compared as they are written: the grammar leaves one spelling for each. Numbers are
    written out, without exponents: 1e999 would be infinite, and every finite value has that form.
    """

    __slots__ = ("_digits", "_escaped", "_is_name", "_name", "_names", "_string")

    def __init__(self) -> None:
        self._names: list[set[bytes] | None] = []
        """Of each open object the names so far; None for each open array."""
        self._string = False
        self._escaped = False
        self._is_name = False
        """Whether the string that is open, or would come next, is a name."""
        self._name = b""
        """The bytes of the open name."""
        self._digits = 0
        """Of the number that is being written."""

    def copy(self) -> JsonText:
        other = JsonText()
        other._names = [None if names is None else set(names) for names in self._names]
        other._string, other._escaped = self._string, self._escaped
        other._is_name, other._name = self._is_name, self._name
        other._digits = self._digits
        return other

    @property
    def in_string(self) -> bool:
        return self._string

    @property
    def is_number_full(self) -> bool:
        return self._digits >= MAX_DIGITS

    def ends_of_taken_names(self) -> list[bytes]:
        """What would complete the open name to one that is taken, closing quote included."""
        if not (self._string and self._is_name and self._names and self._names[-1]):
            return []
        written = len(self._name)
        return [name[written:] + b'"' for name in self._names[-1] if name.startswith(self._name)]

    def push(self, data: bytes) -> bool:
        """Take the next bytes; False if they repeat a name or write an exponent."""
        # Most tokens are plain text within a string.
        if self._string and not self._escaped and _QUOTE not in data and _BACKSLASH not in data:
            if self._is_name:
                self._name += data
            return True
        accepted = True
        for byte in data:
            accepted &= self._push_byte(byte)
        return accepted

    def _push_byte(self, byte: int) -> bool:
        if self._string:
            return self._push_within_string(byte)
        if byte in _NUMBER and (self._digits or byte in _DIGITS):
            self._digits += byte in _DIGITS
            return byte not in b"eE"
        self._digits = 0
        match chr(byte):
            case '"':
                self._string, self._name = True, b""
            case "{" | "[":
                self._names.append(set() if byte == 0x7B else None)
                self._is_name = byte == 0x7B
            case "}" | "]":
                self._names.pop()
            case ",":
                self._is_name = self._names[-1] is not None
            case ":":
                self._is_name = False
        return True

    def _push_within_string(self, byte: int) -> bool:
        if byte == _QUOTE and not self._escaped:
            self._string = False
            return self._close_name() if self._is_name else True
        self._escaped = byte == _BACKSLASH and not self._escaped
        if self._is_name:
            self._name += bytes([byte])
        return True

    def _close_name(self) -> bool:
        names = self._names[-1]
        assert names is not None
        is_new = self._name not in names
        names.add(self._name)
        return is_new


class JsonGuard:
    """Takes tokens out of masks that JsonText would refuse.

    Only tokens that could be refused are tried: of a vocabulary of 65 000 a few dozen, except
    where a name is being completed, and those are found by their beginning.
    """

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._tokens = tokens
        self._quoted = sorted((data, i) for i, data in enumerate(tokens) if _QUOTE in data)
        self._in_string = self._bits(_may_hold_name)
        """Tokens that could be refused even if they do not complete the open name."""
        self._outside = self._in_string | self._bits(_may_hold_exponent)
        """The same where no string is open."""
        self._opening_with_digit = self._bits(lambda data: data[:1].isdigit())

    def restrict(self, mask: bytes, text: JsonText) -> bytes:
        """The mask without refused tokens; as it was if nothing would be left of it."""
        bits = int.from_bytes(mask, "little")
        refused = 0
        for token_id in self._suspects(bits, text):
            if not text.copy().push(self._tokens[token_id]):
                refused |= 1 << token_id
        if text.is_number_full:
            refused |= bits & self._opening_with_digit
        left = bits & ~refused
        return left.to_bytes(len(mask), "little") if refused and left else mask

    def _suspects(self, bits: int, text: JsonText) -> Iterator[int]:
        yield from _set_bits(bits & (self._in_string if text.in_string else self._outside))
        for ending in text.ends_of_taken_names():
            start = bisect_left(self._quoted, ending, key=lambda pair: pair[0])
            for data, token_id in self._quoted[start:]:
                if not data.startswith(ending):
                    break
                if bits >> token_id & 1:
                    yield token_id

    def _bits(self, chosen: Callable[[bytes], bool]) -> int:
        ids = (i for i, data in enumerate(self._tokens) if data and chosen(data))
        return int.from_bytes(packed_bits(ids, len(self._tokens)), "little")


_HAS_EXPONENT = re.compile(rb"[0-9][eE]").search


def _may_hold_name(data: bytes) -> bool:
    """Whether a token could open and close a name, or end a string and write an exponent."""
    return data.count(b'"') >= 2 or bool(_HAS_EXPONENT(data.partition(b'"')[2]))


def _may_hold_exponent(data: bytes) -> bool:
    return data[:1] in (b"e", b"E") or bool(_HAS_EXPONENT(data.partition(b'"')[0]))


def _set_bits(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
