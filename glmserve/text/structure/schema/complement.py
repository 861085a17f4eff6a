"""The complement of what a negative lookahead forbids, as a pattern without lookaheads.

The complement may leave out more than the lookahead forbids, but never less: an assertion within
it is taken as true, and a class has every character that some validator counts to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from glmserve.text.structure.schema.automaton import (
    ALL,
    LAST,
    Automaton,
    CharSet,
    TooLargeError,
    inverted,
    union,
)

_MAX_REPEAT = 20
_MAX_BODY = 200
"""Characters of a lookahead."""

_RANGES = "9-d 20-20 a0-a0 1680-1680 2000-200a 2028-2029 202f-202f 205f-205f 3000-3000"
_SPACES = tuple((int(a, 16), int(b, 16)) for a, b in (r.split("-") for r in _RANGES.split()))
"""What ECMA-262 calls white space, without the byte order mark."""
_MORE_SPACES = union([*_SPACES, (0xFEFF, 0xFEFF), (0x85, 0x85), (0x1C, 0x1F)])
_DIGITS = ((48, 57),)
_WORD = union([*_DIGITS, (65, 90), (95, 95), (97, 122)])
_BEYOND_ASCII = (0x80, LAST)
_WIDE = {
    "s": _MORE_SPACES,
    "S": inverted(_SPACES),
    "d": union([*_DIGITS, _BEYOND_ASCII]),
    "D": inverted(_DIGITS),
    "w": union([*_WORD, _BEYOND_ASCII]),
    "W": inverted(_WORD),
}
"""Characters that some validator counts to a class."""
_NARROW = {
    name: inverted(_WIDE[name.lower() if name.isupper() else name.upper()]) for name in _WIDE
}
"""Characters that all validators count to a class."""
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}
_CODE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}")
_COUNT = re.compile(r"\{(\d+)(,(\d*))?\}")
_GROUP = re.compile(r"\?(?:P?<[A-Za-z_]\w*>|:)")
_ASSERTION = re.compile(r"\?<?[=!]")


class UnknownSyntaxError(ValueError):
    """A regular expression has something that has no complement here."""


def complement(body: str) -> str | None:
    """A pattern of the texts that do not begin as a regular expression says.

    Args:
        body: in the syntax of ECMA-262; `$` stands for the end of the text.

    Returns:
        None if every text begins like this.

    Raises:
        UnknownSyntaxError: the expression cannot be read, or becomes too large.
    """
    if len(body) > _MAX_BODY:
        raise UnknownSyntaxError
    try:
        return _Reader(body).complement()
    except (TooLargeError, RecursionError):
        raise UnknownSyntaxError from None


class _Reader:
    """Builds an automaton while it reads an expression from left to right.

    Each part of the expression lies between two states.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._automaton = Automaton()
        self._end = self._automaton.new_state()
        """The text has ended as the expression says."""

    def complement(self) -> str | None:
        anything = self._alternatives(0)
        if self._at < len(self._text):
            raise UnknownSyntaxError
        self._automaton.add_step(anything, ALL, anything)
        found = self._automaton.complement(self._end, absorbing=anything)
        return None if found is None else f"^(?:{found})$"

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return match

    def _alternatives(self, start: int) -> int:
        """Read alternatives that begin in a state; returns the state behind all of them."""
        end = self._automaton.new_state()
        self._automaton.add_free(self._sequence(start), end)
        while self._take("|"):
            self._automaton.add_free(self._sequence(start), end)
        return end

    def _sequence(self, state: int) -> int:
        while self._peek() not in ("", "|", ")"):
            state = self._repeated(state)
        return state

    def _repeated(self, state: int) -> int:
        """Read a part and its quantifier."""
        begin = self._at
        end = self._part(state)
        least, most = self._quantifier()
        if (least, most) == (1, 1):
            return end
        after = self._at  # the part is read again for each repetition
        state = self._fresh(state)
        exits = [state] if least == 0 else []
        for number in range(1, (max(least, 1) if most is None else most) + 1):
            self._at = begin
            before, state = state, self._part(state)
            if number >= least:
                exits.append(state)
            if most is None and number >= least:
                self._automaton.add_free(state, before)
        self._at = after
        end = self._automaton.new_state()
        for one in exits:
            self._automaton.add_free(one, end)
        return end

    def _fresh(self, state: int) -> int:
        fresh = self._automaton.new_state()
        self._automaton.add_free(state, fresh)
        return fresh

    def _quantifier(self) -> tuple[int, int | None]:
        """The least and the most repetitions; None: any number."""
        found: tuple[int, int | None] = (1, 1)
        if self._take("*"):
            found = 0, None
        elif self._take("+"):
            found = 1, None
        elif self._take("?"):
            found = 0, 1
        elif match := self._match(_COUNT):
            least = int(match[1])
            found = least, (least if match[2] is None else int(match[3]) if match[3] else None)
        else:
            return found
        self._take("?")  # lazy: it matches the same texts
        if max(found[0], found[1] or 0) > _MAX_REPEAT:
            raise UnknownSyntaxError
        return found

    def _part(self, state: int) -> int:
        if self._take("("):
            return self._group(state)
        if self._take("$"):
            self._automaton.add_free(state, self._end)
            return self._automaton.new_state()
        if self._take("^") or self._take(r"\b") or self._take(r"\B"):
            return state
        end = self._automaton.new_state()
        self._automaton.add_step(state, self._chars(), end)
        return end

    def _group(self, state: int) -> int:
        if self._match(_ASSERTION):
            unused = self._automaton.new_state()  # reads it without effect
            self._alternatives(unused)
            end = state
        elif self._match(_GROUP) or self._peek() != "?":
            end = self._alternatives(state)
        else:
            raise UnknownSyntaxError
        if not self._take(")"):
            raise UnknownSyntaxError
        return end

    def _chars(self) -> CharSet:
        """Read one character, or a set of them."""
        if self._take("."):
            return ALL
        if self._take("["):
            return self._class()
        if self._take("\\"):
            return self._escape(_WIDE)
        char = self._peek()
        if char in ("", "*", "+", "?", ")"):
            raise UnknownSyntaxError
        self._at += 1
        return ((ord(char), ord(char)),)

    def _class(self) -> CharSet:
        is_negated = self._take("^")
        classes = _NARROW if is_negated else _WIDE
        members: list[tuple[int, int]] = []
        while not self._take("]"):
            first = self._member(classes)
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                last = self._member(classes)
                if not (_is_one(first) and _is_one(last) and first[0][0] <= last[0][0]):
                    raise UnknownSyntaxError
                first = ((first[0][0], last[0][0]),)
            members += first
        return inverted(union(members)) if is_negated else union(members)

    def _member(self, classes: Mapping[str, CharSet]) -> CharSet:
        if self._take("\\"):
            return ((8, 8),) if self._take("b") else self._escape(classes)
        char = self._peek()
        if not char:
            raise UnknownSyntaxError
        self._at += 1
        return ((ord(char), ord(char)),)

    def _escape(self, classes: Mapping[str, CharSet]) -> CharSet:
        if match := self._match(_CODE):
            code = int(next(filter(None, match.groups())), 16)
            if code > LAST or 0xD800 <= code < 0xE000:
                raise UnknownSyntaxError
            return ((code, code),)
        char = self._peek()
        self._at += 1
        if char in classes:
            return classes[char]
        code = _CONTROLS.get(char, ord(char) if char and not char.isalnum() else -1)
        if code < 0:
            raise UnknownSyntaxError
        return ((code, code),)


def _is_one(chars: CharSet) -> bool:
    return len(chars) == 1 and chars[0][0] == chars[0][1]
