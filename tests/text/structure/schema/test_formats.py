"""Formats of the standard are enforced."""

from __future__ import annotations

import jsonschema
import pytest

from support.schema_engine import Accepting

FORMATS = [
    ("hostname", ["a-b.example.com", "x"], ["-a", "a..b", "xn--X", ("a" * 61 + ".") * 4 + "a"]),
    ("uri-reference", ["/a/b?c=d#e", "", "a/b"], ["a b", "\\", "a\u0000"]),
    ("uri-template", ["/users/{id}/posts"], ["/users/{id", "a}"]),
    ("json-pointer", ["", "/a~1b/0"], ["a", "/a~2"]),
    ("relative-json-pointer", ["1/a", "0#"], ["/a", "01"]),
    ("regex", ["^[a-z]+(x|y)?$", r"\d+\.\d"], ["(", "[", "*"]),
    ("idn-email", ["a@example.com"], ["a"]),
    ("iri", ["http://example.com/"], ["a b"]),
]


@pytest.mark.parametrize(("name", "good", "bad"), FORMATS, ids=[f[0] for f in FORMATS])
def test_enforced(name: str, good: list[str], bad: list[str]) -> None:
    accepts = Accepting({"type": "string", "format": name})
    assert all(map(accepts, good)) and not any(map(accepts, bad))
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    if name in checker.checkers:
        assert all(checker.conforms(text, name) for text in good)
