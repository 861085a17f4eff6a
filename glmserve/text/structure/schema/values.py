"""Checks the values of keywords. Each check returns what is wrong, as a predicate, or None."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from glmserve.text.structure.schema.limits import (
    MAX_CONTAINED,
    MAX_COUNT,
    MAX_EXACT,
    MAX_MULTIPLE,
    MAX_PROPERTIES,
    MIN_SIZE,
    TYPES,
)


def unwritable(value: Any) -> str | None:
    """Why a value cannot be written, if it cannot: control characters, too large numbers."""
    for scalar in _scalars(value):
        if isinstance(scalar, str) and (problem := _unwritable_text(scalar)):
            return problem
        if isinstance(scalar, int | float) and (problem := _inexact(scalar)):
            return problem
    return None


def is_number(value: Any) -> bool:
    """Whether a value is a number of JSON."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    """Whether a value is a number of things: 3.0 is one, too."""
    return is_number(value) and value >= 0 and value == int(value)


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _scalars(member)
    elif isinstance(value, list):
        for member in value:
            yield from _scalars(member)
    else:
        yield value


def _unwritable_text(text: str) -> str | None:
    for char in text:
        if char == "\x7f" or (char < " " and char not in "\b\f\n\r\t"):
            return f"has the control character U+{ord(char):04X}, which cannot be written"
    return None


def _inexact(value: float) -> str | None:
    if isinstance(value, bool) or value == 0 or MIN_SIZE <= abs(value) <= MAX_EXACT:
        return None
    return "has a number that is neither 0 nor between 1e-9 and 2**53 in size"


def _type(value: Any) -> str | None:
    names = value if isinstance(value, list) else [value]
    known = all(isinstance(name, str) and name in TYPES for name in names)
    return None if names and known else f"must be one or several of {', '.join(TYPES)}"


def _enum(value: Any) -> str | None:
    return None if isinstance(value, list) and value else "must be a list of one value or more"


def _bound(value: Any) -> str | None:
    return None if is_number(value) else "must be a number"


def _multiple(value: Any) -> str | None:
    return None if is_number(value) and value > 0 else "must be a number greater than 0"


def _count(value: Any) -> str | None:
    return None if is_count(value) else "must be an integer from 0 on"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be a string"


def _names(value: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return "must be a list of names"
    return None


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _name_lists(value: Any) -> str | None:
    if not isinstance(value, dict) or any(_names(names) for names in value.values()):
        return "must be an object of lists of names"
    return None


MALFORMED: dict[str, Callable[[Any], str | None]] = {
    "type": _type,
    "enum": _enum,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _bound),
    "multipleOf": _multiple,
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _count),
    **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), _count),
    **dict.fromkeys(("pattern", "format"), _text),
    "required": _names,
    "dependentRequired": _name_lists,
    "uniqueItems": _flag,
}
"""What is wrong with a value by the standard, by keyword."""


def _large_count(value: Any) -> str | None:
    return f"is more than {MAX_COUNT}" if value > MAX_COUNT else None


def _many_contained(value: Any) -> str | None:
    return f"is more than {MAX_CONTAINED}" if value > MAX_CONTAINED else None


def _fine_multiple(value: Any) -> str | None:
    number = Decimal(repr(value)).normalize()
    size = number.scaleb(max(0, -int(number.as_tuple().exponent)))
    if size > MAX_MULTIPLE or value < MIN_SIZE:
        return f"must have digits of at most {MAX_MULTIPLE}, such as 0.01 or 250"
    return None


def _many_names(value: Any) -> str | None:
    return f"has more than {MAX_PROPERTIES} names" if len(value) > MAX_PROPERTIES else None


def _small_bound(value: Any) -> str | None:
    return f"is nearer to 0 than {MIN_SIZE}" if 0 < abs(value) < MIN_SIZE else None


UNSUPPORTED: dict[str, Callable[[Any], str | None]] = {
    "const": unwritable,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _small_bound),
    "multipleOf": _fine_multiple,
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _large_count),
    **dict.fromkeys(("minProperties", "maxProperties"), _large_count),
    "minContains": _many_contained,
    **dict.fromkeys(("required", "properties"), _many_names),
}
"""Why a grammar cannot guarantee a well-formed value, by keyword."""
