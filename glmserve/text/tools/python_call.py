"""Reads and writes Python calls with literal arguments, as ChatGLM3 writes them.

    tool_call(city='Beijing', days=3)

This module has its own parser. No code is executed, and model output never reaches Python's parser,
which can run out of stack and prints warnings.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any, NamedTuple

FUNCTION = "tool_call"
"""The function name in every call, for any tool."""

_MAX_DEPTH = 64

_NAME = re.compile(r"[^\W\d]\w*")
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"
                  |'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
      | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
      | (?P<name>[^\W\d]\w*)
      | (?P<mark>\*\*|[()\[\]{}:,=])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(\r\n|[0-7]{1,3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]{0,256}\}|.)",
    re.DOTALL,
)
_PLAIN_ESCAPES = dict(zip("\\'\"abfnrtv", "\\'\"\a\b\f\n\r\t\v", strict=True)) | {
    "\n": "",
    "\r\n": "",
}
_CONSTANTS = {"True": True, "False": False, "None": None} | {
    "true": True,  # JSON's names, which models mix in
    "false": False,
    "null": None,
}


def write_python_call(arguments: Mapping[str, Any]) -> str:
    """Write a call with these arguments. If a name is not a valid identifier, `**{...}` is used.

    Raises:
        ValueError: the arguments are nested too deeply.
    """
    try:
        if all(map(is_parameter_name, arguments)):
            inside = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        else:
            inside = f"**{dict(arguments)!r}"
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return f"{FUNCTION}({inside})"


def is_parameter_name(name: str) -> bool:
    """Whether this is a valid name of a Python argument."""
    return bool(_NAME.fullmatch(name)) and not iskeyword(name)


def read_python_call(code: str, *names: str) -> dict[str, Any]:
    """Arguments of a call of `tool_call` or of one of `names`. JSON's literals are accepted too.

    Raises:
        ValueError: the code is not exactly one call with named arguments of JSON-like values.
    """
    return _Reader(code).call({FUNCTION, *names})


class _Token(NamedTuple):
    kind: str
    text: str


_END = _Token("end", "")


def _tokens(code: str) -> list[_Token]:
    tokens, position, end = [], 0, len(code.rstrip())
    while position < end:
        match = _TOKEN.match(code, position)
        if match is None or match.lastgroup is None:
            raise ValueError("not a call of literals")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return [*tokens, _END]


class _Reader:
    """A recursive-descent parser with bounded depth."""

    def __init__(self, code: str) -> None:
        self._tokens = iter(_tokens(code))
        self._next = next(self._tokens)
        self._depth = 0

    def call(self, names: set[str]) -> dict[str, Any]:
        if self._take("name") not in names:
            raise ValueError("not a call of the tool")
        self._expect("(")
        arguments: dict[str, Any] = {}
        while not self._skip(")"):
            if self._skip("**"):
                self._expect("{")
                new = self._dict()
            else:
                name = self._take("name")
                self._expect("=")
                new = {name: self._value()}
            if arguments.keys() & new.keys():
                raise ValueError("an argument is given twice")
            arguments |= new
            self._comma_unless(")")
        self._take("end")
        return arguments

    def _value(self) -> Any:
        kind, text = self._next
        self._advance()
        if kind == "string":
            return _string(text) + self._more_strings()
        if kind == "number":
            return _number(text)
        if kind == "name" and text in _CONSTANTS:
            return _CONSTANTS[text]
        if text not in ("[", "(", "{"):
            raise ValueError("not a literal")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        value = {"[": self._list, "(": self._tuple, "{": self._dict}[text]()
        self._depth -= 1
        return value

    def _more_strings(self) -> str:
        """Read further adjacent string literals, which Python joins."""
        parts = []
        while self._next.kind == "string":
            parts.append(_string(self._take("string")))
        return "".join(parts)

    def _list(self) -> list[Any]:
        values = []
        while not self._skip("]"):
            values.append(self._value())
            self._comma_unless("]")
        return values

    def _tuple(self) -> Any:
        values, commas = [], 0
        while not self._skip(")"):
            values.append(self._value())
            commas += self._comma_unless(")")
        return values if commas or not values else values[0]

    def _dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not self._skip("}"):
            key = _string(self._take("string")) + self._more_strings()
            self._expect(":")
            values[key] = self._value()
            self._comma_unless("}")
        return values

    def _comma_unless(self, end: str) -> bool:
        """Read a comma if there is one; returns whether. Only `end` may follow without a comma."""
        comma = self._skip(",")
        if not comma and self._next != ("mark", end):
            raise ValueError("a comma is missing")
        return comma

    def _skip(self, mark: str) -> bool:
        found = self._next == ("mark", mark)
        if found:
            self._advance()
        return found

    def _expect(self, mark: str) -> None:
        if not self._skip(mark):
            raise ValueError(f"{mark} is missing")

    def _take(self, kind: str) -> str:
        if self._next.kind != kind:
            raise ValueError(f"a {kind} is missing")
        text = self._next.text
        self._advance()
        return text

    def _advance(self) -> None:
        self._next = next(self._tokens, _END)


def _number(text: str) -> int | float:
    if text.lstrip("+-").isdecimal():
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _string(literal: str) -> str:
    quotes = 3 if literal[:3] in ("'''", '"""') else 1
    text = _ESCAPE.sub(_unescape, literal[quotes:-quotes])
    # Join surrogate pairs that were written as two escapes, as in JSON.
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ValueError("half a character") from None


def _unescape(match: re.Match[str]) -> str:
    escape = match[1]
    if escape in _PLAIN_ESCAPES:
        return _PLAIN_ESCAPES[escape]
    if escape[0] in "01234567":
        return chr(int(escape, 8))
    if escape[0] in "xuU" and len(escape) > 1:
        return chr(int(escape[1:], 16))  # ValueError beyond Unicode
    if escape[0] == "N" and len(escape) > 1:
        try:
            return unicodedata.lookup(escape[2:-1])
        except KeyError:
            raise ValueError("an unknown character") from None
    return match[0]  # Python leaves other escapes as they are
