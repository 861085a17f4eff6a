"""Patterns of ECMA-262 in a grammar."""

from __future__ import annotations

import re

import pytest

from glmserve.text.structure.schema.lookahead import conjunction
from glmserve.text.structure.schema.other_texts import other_texts
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


ZOD_EMAIL = (
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]"
    r"@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
)
LOOKAHEADS = [
    (ZOD_EMAIL, ["a.b@x.org", "a@x.y.org"], [".a@x.org", "a..b@x.org", "a@b", "a.@x.org"]),
    (r"^(?=.*[A-Z])(?=.*\d).{3,}$", ["A1b", "xx1A"], ["A1", "abc", "AAA", "111"]),
    (r"^(?!(admin|root)$)[a-z]+$", ["admi", "admins", "user"], ["admin", "root", "A"]),
    (r"^(?!tmp|x-).*$", ["", "tm", "atmp"], ["tmp", "tmpfile", "x-a"]),
    (r"^(?!\s)a?.$", ["a", "ab"], [" ", "b b"]),
    (r"^(?![0-9])\w+$", ["a1"], ["1a"]),
    (r"^(?!.*-)[a-z-]*$", ["ab"], ["a-b"]),
    (r"^(?=.{1,4}$)[a-z.]+$", ["a.b"], ["a.b.c"]),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), LOOKAHEADS, ids=[p[0] for p in LOOKAHEADS])
def test_leading_lookaheads(pattern: str, good: list[str], bad: list[str]) -> None:
    accepts = Accepting({"type": "string", "pattern": pattern})
    for text in good:
        assert re.search(pattern, text) and accepts(text), text
    for text in bad:
        assert not re.search(pattern, text) and not accepts(text), text


def test_other_lookaheads_are_refused() -> None:
    for pattern in ("^(?!.*ab)c", "^(?!a+b)", "a(?=b)", "^(?!a"):
        with pytest.raises(UnsupportedPatternError):
            for part in conjunction(pattern):
                translated(part)


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
