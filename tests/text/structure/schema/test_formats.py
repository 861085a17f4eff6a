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


OF_NAMES = [
    ("uuid", ["0b2fef44-27b7-4a6f-9f4d-6f1d6e3f7c1a"], ["0b2fef44"]),
    ("email", ["a@b.org", "a.b+c@x.y.de"], ["a@", "@b.c", "a..b@c.de"]),
    ("ipv4", ["1.2.3.4", "255.0.0.1"], ["256.1.1.1", "1.2.3", "01.2.3.4"]),
    ("ipv6", ["::", "fe80::1", "1:2:3:4:5:6:7:8"], [":1", "1::2::3", "12345::1"]),
    ("uri", ["http://a.org/x?y#z", "mailto:/x"], ["//a", "x y:", "a"]),
    ("duration", ["P1Y2M", "PT1H3S", "P2W"], ["P", "PT", "P1H"]),
    ("date", ["2020-01-31"], ["2020-02-31"]),
]


@pytest.mark.parametrize(("name", "good", "bad"), OF_NAMES, ids=[f[0] for f in OF_NAMES])
def test_names_of_properties(name: str, good: list[str], bad: list[str]) -> None:
    accepts = Accepting({"type": "object", "propertyNames": {"format": name}})
    assert all(accepts({text: 1}) for text in good)
    assert not any(accepts({text: 1}) for text in bad)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    if name in checker.checkers:
        assert all(checker.conforms(text, name) for text in good)
