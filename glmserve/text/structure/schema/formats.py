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


def constraint(name: str) -> dict[str, str]:
    """The keyword of the grammar engine that enforces a format; {} if it is an annotation."""
    name = _SAME.get(name, name)
    if name in PATTERNS:
        return {"pattern": PATTERNS[name]}
    return {"format": name} if name in _OF_ENGINE else {}
