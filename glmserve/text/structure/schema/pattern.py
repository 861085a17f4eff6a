"""Translates regular expressions of ECMA-262, which schemas use, to those of Rust's regex crate."""

from __future__ import annotations

import re

from glmserve.text.structure.schema.limits import MAX_COUNT, MAX_PATTERN

_SPACES = r"\t\n\x0b\x0c\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}"
_NO_SPACES = _SPACES + r"\u{feff}\u{85}\x1c-\x1f"
"""Also characters that only some validators count as spaces: neither \\s nor \\S has them."""
_WIDE = {"s": _NO_SPACES, "w": r"\p{L}\p{M}\p{N}_", "d": r"\p{Nd}"}
"""Characters that some validator counts as \\s, \\w or \\d. The complements have none of them."""
_NARROW = {"s": _SPACES, "w": r"\w", "d": r"\d"}
_DOT = r"[^\n\r\u{2028}\u{2029}]"

_PUNCTUATION = frozenset("\\.+*?()|[]{}^$#&-~/")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_LOOKAROUND = re.compile(r"\(\?(?:<?[=!])")
_GROUP = re.compile(r"\(\?(?:P?<[A-Za-z_]\w*>|:)")
_FLAGS = re.compile(r"\(\?[is]+[:)]")
_HEX = re.compile(r"x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]{1,6}\}")
_CONTROL = re.compile("[A-Za-z]")
_PROPERTY = re.compile(r"[pP](?:\{[\w=]+\}|[A-Z])")
_PLAIN_LITERAL = re.compile(r"(?:[^\\^$.|?*+()\[\]{}]|\\[^\w\s])*")


class UnsupportedPatternError(ValueError):
    """A regular expression has something that a grammar cannot hold."""


def check_length(pattern: str) -> None:
    """
    Raises:
        UnsupportedPatternError: a pattern of a user's is too long.
    """
    if len(pattern) > MAX_PATTERN:
        raise UnsupportedPatternError(f"has more than {MAX_PATTERN} characters")


def translated(pattern: str) -> str:
    """The pattern in Rust's syntax. It matches the same texts, or fewer in corner cases.

    Raises:
        UnsupportedPatternError: it has look-around, a back-reference, a word boundary, or an
            unknown escape.
    """
    return _Translator(pattern).translate()


def finite_names(pattern: str) -> list[str] | None:
    """All texts that a pattern such as ^(a|b)$ matches; None if it is not of this kind."""
    match = re.fullmatch(r"\^(?:\((?:\?:)?(.*)\)|(.*))\$", pattern, re.DOTALL)
    if match is None:
        return None
    body = match[1] if match[1] is not None else match[2]
    options = body.split("|")
    if match[1] is None and len(options) > 1:  # ^a|b$ is another pattern
        return None
    if not all(_PLAIN_LITERAL.fullmatch(option) for option in options):
        return None
    return list(dict.fromkeys(re.sub(r"\\(.)", r"\1", option) for option in options))


class _Translator:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0

    def translate(self) -> str:
        parts = []
        while self._at < len(self._text):
            parts.append(self._next())
        return "".join(parts)

    def _next(self) -> str:
        char = self._text[self._at]
        if char == "\\":
            return self._escape(None)
        if char == "[":
            return self._class()
        if char == "(":
            return self._group()
        if char == "{":
            return self._repeat()
        self._at += 1
        if char == ".":
            return _DOT
        return f"\\{char}" if char in "}]" else char

    def _group(self) -> str:
        if _LOOKAROUND.match(self._text, self._at):
            raise UnsupportedPatternError("has look-around, which no grammar can hold")
        if match := _GROUP.match(self._text, self._at):
            self._at = match.end()
            return "(?:"
        if match := _FLAGS.match(self._text, self._at):
            self._at = match.end()
            return match[0]
        if self._text.startswith("(?", self._at):
            raise UnsupportedPatternError("has an unknown kind of group")
        self._at += 1
        return "("

    def _repeat(self) -> str:
        match = _REPEAT.match(self._text, self._at)
        if match is None:
            self._at += 1
            return "\\{"
        if any(int(count) > MAX_COUNT for count in match.groups() if count):
            raise UnsupportedPatternError(f"repeats something more than {MAX_COUNT} times")
        self._at = match.end()
        return match[0]

    def _class(self) -> str:
        self._at += 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        members = []
        while not self._text.startswith("]", self._at):
            if self._at >= len(self._text):
                raise UnsupportedPatternError("has a class without an end")
            members.append(self._member(negated))
        self._at += 1
        if not members:
            if negated:
                return "(?s:.)"
            raise UnsupportedPatternError("has an empty class")
        return f"[{'^' if negated else ''}{''.join(members)}]"

    def _member(self, negated: bool) -> str:
        char = self._text[self._at]
        if char == "\\":
            return self._escape(_WIDE if negated else _NARROW)
        self._at += 1
        if char == "-":
            is_last = self._text.startswith("]", self._at)
            is_first = self._text[self._at - 2] in "[-" or self._text[: self._at - 1].endswith("[^")
            return "\\-" if is_first or is_last else "-"
        return f"\\{char}" if char in "[&~^" else char

    def _escape(self, members: dict[str, str] | None) -> str:
        """Read an escape. `members` are the sets for a class that the escape is in."""
        self._at += 1
        char = self._text[self._at : self._at + 1]
        for form in (_HEX, _PROPERTY):
            if match := form.match(self._text, self._at):
                self._at = match.end()
                return self._surrogate(match[0]) or f"\\{match[0]}"
        self._at += 1
        if char and char in "swd":
            return members[char] if members else f"[{_NARROW[char]}]"
        if char and char in "SWD":
            return f"[^{_NARROW[char.lower()] if members is _WIDE else _WIDE[char.lower()]}]"
        if char and char in "tnrfv":
            return f"\\{char}"
        if char == "b" and members:
            return r"\x08"
        if char == "0" and not self._text[self._at : self._at + 1].isdigit():
            return r"\x00"
        if char == "c" and (control := _CONTROL.match(self._text, self._at)):
            self._at += 1
            return rf"\x{ord(control[0]) % 32:02x}"
        if not char or char.isalnum():
            raise UnsupportedPatternError(f"has \\{char}, which no grammar can hold")
        return f"\\{char}" if char in _PUNCTUATION else char

    def _surrogate(self, escape: str) -> str | None:
        """A character that is written as two escapes, or None if this is no first half."""
        if not re.fullmatch(r"u[dD][89abAB][0-9a-fA-F]{2}", escape):
            return None
        second = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})").match(self._text, self._at)
        if second is None:
            raise UnsupportedPatternError("has half of a surrogate pair")
        self._at = second.end()
        high, low = int(escape[1:], 16) - 0xD800, int(second[1], 16) - 0xDC00
        return rf"\u{{{0x10000 + (high << 10) + low:x}}}"
