"""Formats of strings. Those of the standard are enforced, all others are annotations."""

from __future__ import annotations

from glmserve.text.structure.schema.dates import PATTERNS as DATES

_LABEL = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,30}"
"""At most 63 characters; never "--" as in encoded names, most of which are invalid."""
_ESCAPED = "%[0-9A-Fa-f]{2}"
_SEGMENT = rf"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|{_ESCAPED})"
_POINTER = "(?:/(?:[^/~]|~[01])*)*"
_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_CHARACTER = r"(?:[A-Za-z0-9 _,:;<>=!@#%&'\"/~`-]|\.|\\[dDwWsS./\\^$*+?()\[\]{}|])"
_CLASS = r"\[\^?(?:a-z|A-Z|0-9|[A-Za-z0-9 _.,:])+\]"
_ATOM = rf"(?:{_CHARACTER}|{_CLASS}|\({_CHARACTER}+(?:\|{_CHARACTER}+)*\))"

PATTERNS = {
    **DATES,
    "uri-reference": rf"^/?(?:{_SEGMENT}+/)*{_SEGMENT}*(?:\?{_SEGMENT}*)?(?:#{_SEGMENT}*)?$",
    "uri-template": rf"^/?(?:(?:{_SEGMENT}+|\{{{_NAME}\}})/)*(?:{_SEGMENT}+|\{{{_NAME}\}})?$",
    "json-pointer": f"^{_POINTER}$",
    "relative-json-pointer": f"^(?:0|[1-9][0-9]*)(?:#|{_POINTER})$",
    "regex": rf"^\^?(?:{_ATOM}[*+?]?)+\$?$",
    "hostname": rf"^{_LABEL}(?:\.{_LABEL}){{0,3}}$",
}
"""Our own regex by format. Each matches only valid texts, but not all of them."""

_SAME = {
    "iri": "uri",
    "iri-reference": "uri-reference",
    "idn-email": "email",
    "idn-hostname": "hostname",
}
"""A format whose texts are also valid for another format."""

_OF_ENGINE = frozenset("duration email ipv4 ipv6 uuid uri".split())


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_HEX = "[0-9A-Fa-f]"
_GROUP = f"{_HEX}{{1,4}}"
_WORD = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DAYS = "(?:[0-9]+Y(?:[0-9]+M)?(?:[0-9]+D)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"
_HOURS = "(?:[0-9]+H(?:[0-9]+M)?(?:[0-9]+S)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"

_PATTERNS_OF_ENGINE = {
    "duration": f"^P(?:[0-9]+W|{_DAYS}(?:T{_HOURS})?|T{_HOURS})$",
    "email": rf"^{_WORD}(?:\.{_WORD}){{0,3}}@{_LABEL}(?:\.{_LABEL}){{1,3}}$",
    "ipv4": rf"^{_OCTET}(?:\.{_OCTET}){{3}}$",
    "ipv6": f"^(?:(?:{_GROUP}:){{7}}{_GROUP}|(?:{_GROUP}:){{1,4}}(?::{_GROUP}){{1,3}}|::)$",
    "uri": rf"^[A-Za-z][A-Za-z0-9+.-]*:(?://{_LABEL}(?:\.{_LABEL}){{0,3}})?"
    rf"(?:/{_SEGMENT}+)*/?(?:\?{_SEGMENT}*)?(?:#{_SEGMENT}*)?$",
    "uuid": f"^{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}$",
}
"""Our own regex of formats that the engine knows, but not for names of properties."""


def full_pattern(name: str) -> str | None:
    """A regex of texts of a format; None if it is an annotation. It may match fewer texts."""
    name = _SAME.get(name, name)
    return PATTERNS.get(name, _PATTERNS_OF_ENGINE.get(name))


def constraint(name: str) -> dict[str, str]:
    """The keyword of the grammar engine that enforces a format; {} if it is an annotation."""
    name = _SAME.get(name, name)
    if name in PATTERNS:
        return {"pattern": PATTERNS[name]}
    return {"format": name} if name in _OF_ENGINE else {}
