"""Checks JSON schemas, and converts them for the grammar engine (llguidance).

The dialect is draft 2020-12; older drafts and OpenAPI's `nullable` are rewritten. A schema is
guaranteed as a whole, or, with a Leniency, without the keywords that no grammar can hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from glmserve.text.structure.schema.converter import Converter
from glmserve.text.structure.schema.leniency import Leniency
from glmserve.text.structure.schema.problem import SchemaError
from glmserve.text.structure.schema.references import make_references_local
from glmserve.text.structure.schema.satisfiable import (
    check_finite,
    finite_places,
    without_infinite,
)
from glmserve.text.structure.schema.unique import UniqueItems

WHITESPACE = r" |\r?\n(?: {0,40}|\t{0,10})"
"""Whitespace between two JSON tokens, if any: a blank, or a line break and an indent. It is
bounded, so that a model cannot write blanks without end."""

ESCAPES = 'nrbtf\\"'
"""Characters after a backslash. Without \\uXXXX each string has one spelling: equal property names
look equal, and the model cannot write half of a surrogate pair."""


_MAX_KEPT = 64 * 1024
"""Characters of a schema whose conversion is kept for the next request."""


class Converted(NamedTuple):
    """A converted schema, and what it leaves out."""

    schema: dict[str, Any]
    dropped: tuple[str, ...]
    """JSON pointers of keywords."""
    unique: UniqueItems
    """Arrays whose strings must differ; the guard of JSON text sees to it."""


def checked_schema(schema: Any, layout: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Check a schema and convert it for llguidance. What matches the result matches the schema.

    Args:
        schema: the user's schema, parsed from JSON.
        layout: llguidance's options for separators and whitespace. By default WHITESPACE is allowed
            between any two tokens.

    Raises:
        SchemaError: it is not a schema, has a keyword that cannot be guaranteed, or no value
            matches it.
    """
    return converted_schema(schema, Leniency.NOTHING, layout=layout).schema


def converted_schema(
    schema: Any,
    leniency: Leniency,
    left_out: frozenset[str] = frozenset(),
    layout: Mapping[str, Any] | None = None,
    *,
    is_guarded: bool = False,
    part: str = "",
) -> Converted:
    """Like `checked_schema`, but some keywords are left out.

    Args:
        leniency: what is left out if it cannot be guaranteed.
        left_out: keywords that are left out everywhere, unless the leniency is NOTHING.
        is_guarded: the guard of JSON text will see to the result's `unique`.
        part: JSON pointer of the schema within `schema` that the result describes.

    Raises:
        SchemaError: it is not a schema, or no value matches it.
    """
    text = _text(schema)
    if leniency is Leniency.NOTHING:
        left_out = frozenset()
    options = json.dumps(layout or {"whitespace_pattern": WHITESPACE})
    convert = _convert if len(text) <= _MAX_KEPT else _convert.__wrapped__
    return convert(text, leniency, left_out, options, is_guarded, part)


@lru_cache(maxsize=64)
def _convert(
    text: str,
    leniency: Leniency,
    left_out: frozenset[str],
    layout: str,
    is_guarded: bool,
    part: str,
) -> Converted:
    """Like `converted_schema`. Clients send the same schemas again and again."""
    schema = json.loads(text)
    make_references_local(schema)
    converter = Converter(schema, leniency, left_out, is_guarded=is_guarded)
    try:
        checked = converter.convert(part)
    except RecursionError:
        raise SchemaError("", "is nested too deeply") from None
    definitions = converter.definitions
    finite = finite_places({f"/$defs/{name}": member for name, member in definitions.items()})
    check_finite(checked, finite)
    possible = without_infinite(checked, finite)
    keywords = dict(possible) if isinstance(possible, dict) else {}
    if definitions:
        keywords["$defs"] = {
            name: without_infinite(member, finite) for name, member in definitions.items()
        }
    keywords["x-guidance"] = {"json_allowed_escapes": ESCAPES, **json.loads(layout)}
    return Converted(keywords, tuple(dict.fromkeys(converter.dropped)), converter.unique)


def _text(schema: Any) -> str:
    """The schema as JSON text.

    Raises:
        SchemaError: it is no JSON, or no schema.
    """
    if not isinstance(schema, dict | bool):
        raise SchemaError("", "must be an object, true or false")
    try:
        json.dumps(schema, ensure_ascii=False).encode()
        return json.dumps(schema, allow_nan=False)
    except UnicodeEncodeError:
        raise SchemaError("", "has a lone surrogate, which is no text") from None
    except (TypeError, ValueError, RecursionError):
        raise SchemaError("", "is not JSON, or nested too deeply") from None
