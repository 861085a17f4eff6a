"""Checks JSON schemas and converts them for llguidance.

llguidance ignores unknown keywords and reads some others loosely. So every keyword is checked here
first: it is known and well-formed, an annotation, or refused by name. The dialect is 2020-12. This
module is stricter than the specification:

* The alternatives of `oneOf` must visibly exclude each other; it then equals `anyOf`.
* `patternProperties` are refused: no name may occur twice in an object, so names could run out.
* The numbers in a schema are at most 2**53 in size and not tiny, because they become regexes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from glmserve.errors import InvalidRequestError
from glmserve.text.structure.dates import PATTERNS
from glmserve.text.structure.exclusive import are_exclusive
from glmserve.text.structure.refs import pointer
from glmserve.text.structure.satisfiable import has_finite_value

MAX_TEXT = 64 * 1024
"""Characters of a schema. Published schemas of services and tools have a tenth of this."""
MAX_DEPTH = 32
MAX_PROPERTIES = 500
"""Per object. A step's cost grows with the square of the optional ones: 2 ms at this number."""
MAX_PATTERN = 1000
MAX_COUNT = 10_000
"""For lengths and numbers of items, because each count is a state of the automaton."""
MAX_MULTIPLE = 10_000
"""For multipleOf without its decimal point, because each remainder is a state of the automaton."""

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
FORMATS = (
    *("date-time", "time", "date", "duration", "email"),
    *("hostname", "ipv4", "ipv6", "uuid", "uri"),
)
ANNOTATIONS = frozenset(
    "title description default examples deprecated readOnly writeOnly contentEncoding "
    "contentMediaType $schema $id $comment discriminator".split()
)

WHITESPACE = r" |\r?\n(?: {0,40}|\t{0,10})"
"""Whitespace between two JSON tokens, if any: a blank, or a line break and an indent. It is
bounded, so that a model cannot write blanks without end."""

ESCAPES = 'nrbtf\\"'
"""Characters after a backslash. Without \\uXXXX each string has one spelling: equal property names
look equal, and the model cannot write half of a surrogate pair."""

Schema = dict[str, Any] | bool


def checked_schema(schema: Any, layout: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Check a schema and convert it for llguidance.

    Args:
        schema: the user's schema, parsed from JSON.
        layout: llguidance's options for separators and whitespace. By default WHITESPACE is allowed
            between any two tokens.

    Raises:
        InvalidRequestError: it is not a schema, has a keyword that cannot be honoured, or no value
            matches it.
    """
    checked = _Checker(schema).check()
    keywords = checked if isinstance(checked, dict) else {}
    options = layout or {"whitespace_pattern": WHITESPACE}
    return {**keywords, "x-guidance": {"json_allowed_escapes": ESCAPES, **options}}


def _refuse(place: str, problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"the schema{f' at {place}' if place else ''}: {problem}")


class _Checker:
    """Walks over a schema, then checks what needs all of it: references and oneOf."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._at: dict[str, Schema] = {}
        """Converted schema by JSON pointer."""
        self._refs: dict[str, str] = {}
        """Pointer of the target schema by pointer of the referring schema."""
        self._one_of: list[tuple[str, dict[str, Any]]] = []

    def check(self) -> dict[str, Any] | bool:
        self._check_size()
        checked = self._schema(self._root, "", 0)
        for place, target in self._refs.items():
            if target not in self._at:
                raise _refuse(place, f"$ref {target!r} leads to no schema")
        for place, owner in self._one_of:
            self._make_any_of(place, owner)
        if not has_finite_value(checked, self._at):
            raise _refuse("", "no finite JSON value fits it")
        return checked

    def _check_size(self) -> None:
        try:
            text = json.dumps(self._root, allow_nan=False)
            json.dumps(self._root, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _refuse("", "has a lone surrogate, which is no text") from None
        except (TypeError, ValueError, RecursionError):
            raise _refuse("", "is not JSON, or nested too deeply") from None
        if len(text) > MAX_TEXT:
            raise _refuse("", f"has {len(text)} characters; at most {MAX_TEXT} are allowed")

    def _schema(self, schema: Any, place: str, depth: int) -> Schema:
        if depth > MAX_DEPTH:
            raise _refuse(place, f"is nested more than {MAX_DEPTH} deep")
        if not isinstance(schema, dict | bool):
            raise _refuse(place, "must be an object, true or false")
        if isinstance(schema, bool):
            self._at[place] = schema
            return schema
        checked: dict[str, Any] = {}
        self._at[place] = checked
        for keyword, value in schema.items():
            if keyword in ANNOTATIONS or _is_vendors(keyword):
                if keyword == "$id" and place:
                    raise _refuse(place, "$id is only understood at the top")
                continue
            checked[keyword] = self._keyword(keyword, value, place, depth)
        if checked.get("format") in PATTERNS:  # separate: the schema may have its own pattern
            pattern = PATTERNS[checked.pop("format")]
            checked.setdefault("allOf", []).append({"pattern": pattern})
        if "oneOf" in checked:
            self._one_of.append((place, checked))
        return checked

    def _keyword(self, keyword: str, value: Any, place: str, depth: int) -> Any:
        where = f"{place}/{keyword}"
        if keyword in ("items", "additionalProperties"):
            return self._schema(value, where, depth + 1)
        if keyword in ("allOf", "anyOf", "oneOf", "prefixItems"):
            if not isinstance(value, list) or not value:
                raise _refuse(place, f"{keyword} must be a list of one schema or more")
            return [self._schema(s, f"{where}/{i}", depth + 1) for i, s in enumerate(value)]
        if keyword in ("properties", "$defs", "definitions"):
            return self._named(keyword, value, where, depth)
        if keyword == "$ref":
            self._refs[place] = _pointer(place, value)
            return value
        check = _VALUES.get(keyword)
        if check is None:
            raise _refuse(place, f"the keyword {keyword} is not supported")
        if problem := check(value):
            raise _refuse(place, f"{keyword} {problem}")
        return value

    def _named(self, keyword: str, value: Any, where: str, depth: int) -> dict[str, Schema]:
        if not isinstance(value, dict):
            raise _refuse(where, "must be an object of schemas")
        if keyword == "properties" and len(value) > MAX_PROPERTIES:
            raise _refuse(where, f"has {len(value)} names; at most {MAX_PROPERTIES} are allowed")
        return {
            name: self._schema(schema, f"{where}/{_escaped(name)}", depth + 1)
            for name, schema in value.items()
        }

    def _make_any_of(self, place: str, owner: dict[str, Any]) -> None:
        alternatives = owner.pop("oneOf")
        for number, one in enumerate(alternatives):
            for other in alternatives[number + 1 :]:
                if not are_exclusive(one, other, self._at):
                    raise _refuse(
                        place,
                        "alternatives of oneOf may both match; use anyOf, or give each object "
                        "a required property with a const of its own",
                    )
        if "anyOf" in owner:
            owner.setdefault("allOf", []).append({"anyOf": alternatives})
        else:
            owner["anyOf"] = alternatives


def _is_vendors(keyword: str) -> bool:
    return keyword.startswith("x-") and keyword != "x-guidance"


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _pointer(place: str, ref: Any) -> str:
    if not isinstance(ref, str) or not ref.startswith("#"):
        raise _refuse(place, "$ref must point into this schema: '#' or '#/$defs/name'")
    return pointer(ref)


def _type(value: Any) -> str | None:
    names = value if isinstance(value, list) else [value]
    known = all(isinstance(name, str) and name in TYPES for name in names)
    return None if names and known else f"must be one or several of {', '.join(TYPES)}"


def _const(value: Any) -> str | None:
    for scalar in _scalars(value):
        if isinstance(scalar, str) and (problem := _unwritable(scalar)):
            return problem
        if isinstance(scalar, int | float) and (problem := _number(scalar)):
            return problem
    return None


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


def _unwritable(text: str) -> str | None:
    for char in text:
        if char == "\x7f" or (char < " " and char not in "\b\f\n\r\t"):
            return f"has the control character U+{ord(char):04X}, which cannot be written"
    return None


def _enum(value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return "must be a list of one value or more"
    return _const(value)


def _number(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    if value != 0 and not 1e-9 <= abs(value) <= 2**53:
        return "has a number that is neither 0 nor between 1e-9 and 2**53 in size"
    return None


def _bound(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number"
    return _number(value)


def _multiple(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return "must be a number greater than 0"
    number = Decimal(repr(value)).normalize()
    size = number.scaleb(max(0, -int(number.as_tuple().exponent)))
    if size > MAX_MULTIPLE or value < 1e-9:
        return f"must have digits of at most {MAX_MULTIPLE}, such as 0.01 or 250"
    return None


def _count(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        return f"must be an integer from 0 to {MAX_COUNT}"
    return None


def _pattern(value: Any) -> str | None:
    if not isinstance(value, str) or len(value) > MAX_PATTERN:
        return f"must be a regular expression of at most {MAX_PATTERN} characters"
    return None


def _format(value: Any) -> str | None:
    return None if value in FORMATS else f"must be one of {', '.join(FORMATS)}"


def _required(value: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return "must be a list of names"
    return f"has more than {MAX_PROPERTIES} names" if len(value) > MAX_PROPERTIES else None


def _unique(value: Any) -> str | None:
    return None if value is False else "is not supported"


_VALUES: dict[str, Callable[[Any], str | None]] = {
    "type": _type,
    "const": _const,
    "enum": _enum,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _bound),
    "multipleOf": _multiple,
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _count),
    **dict.fromkeys(("minProperties", "maxProperties"), _count),
    "pattern": _pattern,
    "format": _format,
    "required": _required,
    "uniqueItems": _unique,
}
"""Check by keyword. It returns what is wrong with a value, as a predicate, or None."""
