"""Converts the keywords that the engine has, too."""

from __future__ import annotations

from typing import Any

from glmserve.text.structure.schema.bounds import inward
from glmserve.text.structure.schema.conversion import Conversion, Keyword, Schema
from glmserve.text.structure.schema.formats import constraint
from glmserve.text.structure.schema.limits import MAX_COUNT
from glmserve.text.structure.schema.lookahead import conjunction
from glmserve.text.structure.schema.pattern import UnsupportedPatternError, check_length, translated
from glmserve.text.structure.schema.values import UNSUPPORTED, unwritable


def pass_on(conversion: Conversion, keyword: str, value: Any) -> None:
    check = UNSUPPORTED.get(keyword)
    if problem := check(value) if check else None:
        raise conversion.unsupported(keyword, problem)
    conversion.direct[keyword] = value


def _enum(conversion: Conversion, keyword: str, value: list[Any]) -> None:
    writable = [member for member in value if unwritable(member) is None]
    if not writable:
        raise conversion.unsupported(keyword, str(unwritable(value)))
    conversion.direct[keyword] = writable


def _bound(conversion: Conversion, keyword: str, value: float) -> None:
    is_integer = conversion.schema.get("type") == "integer"
    name, bound, problem = inward(keyword, value, is_integer=is_integer)
    if problem:
        raise conversion.unsupported(keyword, problem)
    if name in conversion.direct:  # moved inward, to the place of another bound
        conversion.all.append({name: bound})
    else:
        pass_on(conversion, name, bound)


def _large_count(conversion: Conversion, keyword: str, value: float) -> None:
    conversion.direct[keyword] = min(int(value), MAX_COUNT)


def _small_count(conversion: Conversion, keyword: str, value: float) -> None:
    pass_on(conversion, keyword, int(value))


def _pattern(conversion: Conversion, keyword: str, value: str) -> None:
    try:
        first, *others = map(translated, conjunction(value))
    except UnsupportedPatternError as error:
        raise conversion.unsupported(keyword, str(error)) from None
    conversion.direct[keyword] = first
    conversion.all += [{"pattern": other} for other in others]


def _format(conversion: Conversion, keyword: str, value: str) -> None:
    if enforced := constraint(value):
        part = conversion.inner(enforced, keyword) if "pattern" in enforced else enforced
        conversion.all.append(part)


def _one(conversion: Conversion, keyword: str, value: Any) -> None:
    conversion.direct[keyword] = conversion.inner(value, keyword)


def _list(conversion: Conversion, keyword: str, value: list[Any]) -> None:
    conversion.direct[keyword] = [conversion.inner(s, keyword, str(i)) for i, s in enumerate(value)]


def _named(conversion: Conversion, keyword: str, value: dict[str, Any]) -> None:
    pass_on(conversion, keyword, value)
    conversion.direct[keyword] = {
        name: conversion.inner(member, keyword, name) for name, member in value.items()
    }


def _pattern_properties(conversion: Conversion, keyword: str, value: dict[str, Any]) -> None:
    members: dict[str, Schema] = {}
    for pattern, member in value.items():
        try:
            check_length(pattern)
            name = translated(pattern)
        except UnsupportedPatternError as error:
            raise conversion.unsupported(keyword, f"{pattern!r} {error}") from None
        converted = conversion.inner(member, keyword, pattern)
        known = members.get(name, True)
        members[name] = converted if known is True else {"allOf": [known, converted]}
    conversion.direct[keyword] = members


def _reference(conversion: Conversion, keyword: str, value: Any) -> None:
    conversion.direct |= conversion.context.reference(conversion.place, value, conversion.depth)


PLAIN: dict[str, Keyword] = {
    **dict.fromkeys(("type", "const", "multipleOf", "required"), pass_on),
    "enum": _enum,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _bound),
    **dict.fromkeys(("minLength", "minItems"), _small_count),
    **dict.fromkeys(("maxLength", "maxItems"), _large_count),
    "pattern": _pattern,
    "format": _format,
    **dict.fromkeys(("items", "additionalProperties"), _one),
    **dict.fromkeys(("allOf", "anyOf", "prefixItems"), _list),
    "properties": _named,
    "patternProperties": _pattern_properties,
    "$ref": _reference,
}
