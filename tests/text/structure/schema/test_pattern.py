"""Patterns of ECMA-262 in a grammar."""

from __future__ import annotations

import pytest

from glmserve.text.structure.schema.negation import other_texts
from glmserve.text.structure.schema.pattern import (
    UnsupportedPatternError,
    finite_names,
    translated,
)
from support.schema_engine import Accepting

PATTERNS = [
    ("^{a}$", ["{a}"], ["a"]),
    ("^[[a&&b~]+$", ["[", "&&", "a~b"], ["c"]),
    (r"^\/\-\_\#$", ["/-_#"], ["\\/"]),
    ("^a|b$", ["ax", "xb"], ["x"]),
    (r"^(?<year>\d{4})$", ["2000"], ["200", "٢٠٠٠"]),
    (r"^\u0041\x42\uD83D\uDE00$", ["AB😀"], ["AB"]),
    ("^[^]$", ["a", "\n"], ["", "ab"]),
    ("^.$", ["a", "é"], ["\n", "\r", ""]),
    (r"^\s$", [" ", "\u00a0", "\n"], ["a", "\u0085"]),
    (r"^\S$", ["a"], [" ", "\ufeff", "\u0085"]),
    (r"^\W$", [" ", "-"], ["a", "é", "1"]),
    (r"^[^\w]$", [" ", "-"], ["a", "é", "1"]),
    (r"^[\w-]+$", ["a-b_1"], ["é", " "]),
    (r"^[a-]$", ["a", "-"], ["b"]),
    (r"^\p{L}+$", ["aé"], ["1"]),
    ("", ["", "anything"], []),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), PATTERNS, ids=[p[0] for p in PATTERNS])
def test_matches(pattern: str, good: list[str], bad: list[str]) -> None:
    accepts = Accepting({"type": "string", "pattern": pattern})
    assert all(map(accepts, good)) and not any(map(accepts, bad))


@pytest.mark.parametrize(
    "pattern", ["(?=a)", "a(?<!b)", r"(a)\1", r"\k<n>", r"\Z", "[a", "[]", "(?'n'a)"]
)
def test_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedPatternError):
        translated(pattern)


def test_finite_names() -> None:
    assert finite_names("^(a|b-c)$") == ["a", "b-c"]
    assert finite_names(r"^a\.b$") == ["a.b"]
    for pattern in ("^a|b$", "a", "^a+$", "^(a|b)", "^[ab]$"):
        assert finite_names(pattern) is None


def test_other_texts() -> None:
    accepts = Accepting({"type": "string", "pattern": other_texts(["ab", "a", "x\n"])})
    for text in ("", "b", "abc", "ac", "x", "x\nz", "aa"):
        assert accepts(text), text
    for text in ("ab", "a", "x\n"):
        assert not accepts(text), text
