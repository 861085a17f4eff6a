"""Reads and writes JSON in model output."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

_STRUCTURE = re.compile(r'["{}\[\]]')
_STRING_END = re.compile(r'["\\]')


class ObjectScanner:
    """Finds the end of a JSON object in text that arrives in pieces.

    It counts brackets outside strings and checks nothing else. Invalid JSON ends where its brackets
    balance, or never.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "done")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.done = False

    def feed(self, text: str) -> int:
        """Add text; returns how many of its characters belong to the object."""
        position = 0
        while position < len(text) and not self.done:
            if self._escaped:
                self._escaped = False
                position += 1
                continue
            match = (_STRING_END if self._in_string else _STRUCTURE).search(text, position)
            if match is None:
                return len(text)
            self._read(match[0])
            position = match.end()
        return position

    def _read(self, mark: str) -> None:
        if mark == "\\":
            self._escaped = True
        elif mark == '"':
            self._in_string = not self._in_string
        else:
            self._depth += 1 if mark in "{[" else -1
            self.done = self._depth == 0


def read_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is not strict JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_json(value: Any) -> str:
    """Write a value as JSON, without escapes for non-ASCII characters that can be encoded.

    Raises:
        ValueError: a number is not finite, or the value is nested too deeply.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:  # a lone surrogate needs an escape
        return json.dumps(value)
    return text


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
