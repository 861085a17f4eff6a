"""Patterns of ECMA-262 in a grammar."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from glmserve.text.structure.schema.complement import UnknownSyntaxError, complement
from glmserve.text.structure.schema.limits import MAX_PATTERN
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
    (r"^(?!.*ab)c", ["c", "cba"], ["cab", "b"]),
    (r"^(?!a+b)", ["", "ba", "aa"], ["aab"]),
    (r"^(?!\s*$).+", ["a", " a"], ["", "  "]),
    (r"^((?!foo).)*$", ["", "fo", "ofo"], ["foo", "afoo"]),
    (r"^(?!.*(?:password|admin)).*$", ["pass", "admi"], ["a password", "admin1"]),
    (r"^(?!-)(?!.*--)[a-z-]+(?<!-)$", ["a-b"], ["-a", "a--b", "a-"]),
    (r"(?!^\d+$)^.+$", ["a1", "1 "], ["1", "12"]),
    (r"^(?!https?://)\S+$", ["http:/", "x"], ["http://x", "https://"]),
    (r"^(?!(?:a|bc)*$)[abc]+$", ["b", "cb"], ["abca", "a"]),
    (r"^(?![^\w-])[\w~-]{1,3}$", ["a~", "-"], ["~a"]),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), LOOKAHEADS, ids=[p[0] for p in LOOKAHEADS])
def test_leading_lookaheads(pattern: str, good: list[str], bad: list[str]) -> None:
    accepts = Accepting({"type": "string", "pattern": pattern})
    for text in good:
        assert re.search(pattern, text) and accepts(text), text
    for text in bad:
        assert not re.search(pattern, text) and not accepts(text), text


def test_other_lookaheads_are_refused() -> None:
    for pattern in ("a(?=b)", "^(?!a", "^a-(?!b)", "(?!a)b", r"^(?!(.)\1)", "^(?!)"):
        with pytest.raises(UnsupportedPatternError):
            for part in conjunction(pattern):
                translated(part)


PARTS = st.sampled_from(["a", "b", "c", "[ab]", "[^a]", ".", r"\d", "(?:a|bc)", "(ab)", "1"])
QUANTIFIERS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}"])
BODIES = st.lists(st.builds("{}{}".format, PARTS, QUANTIFIERS), min_size=1, max_size=4)


@given(BODIES, st.sampled_from(["", "$"]), st.lists(st.text("abc1", max_size=6), max_size=20))
def test_complements(parts: list[str], end: str, texts: list[str]) -> None:
    body = "".join(parts) + end
    try:
        pattern = complement(body)
    except UnknownSyntaxError:  # it becomes too large
        return
    if pattern is None:
        assert all(re.match(body, text) for text in texts)
        return
    assume(len(pattern) <= MAX_PATTERN)  # longer ones cannot be written by users
    accepts = Accepting({"type": "string", "pattern": pattern})
    for text in texts:
        assert accepts(text) == (re.match(body, text) is None), text


def test_large_complements_are_refused() -> None:
    for body in (".*[ab].{9}", "((a{20}){20}){20}", "(?:" * 60, "." * 201, "a{21}"):
        with pytest.raises(UnknownSyntaxError):
            complement(body)


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
