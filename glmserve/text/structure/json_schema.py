"""Checks JSON schemas, and converts them for the grammar engine (llguidance).

The dialect is draft 2020-12; older drafts and OpenAPI's `nullable` are rewritten. A schema is
guaranteed as a whole, or, with a Leniency, without the keywords that no grammar can hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from glmserve.text.structure.schema.converter import Converter
from glmserve.text.structure.schema.leniency import Leniency
from glmserve.text.structure.schema.problem import SchemaError
from glmserve.text.structure.schema.references import with_local_references
from glmserve.text.structure.schema.satisfiable import has_finite_value

WHITESPACE = r" |\r?\n(?: {0,40}|\t{0,10})"
"""Whitespace between two JSON tokens, if any: a blank, or a line break and an indent. It is
bounded, so that a model cannot write blanks without end."""

ESCAPES = 'nrbtf\\"'
"""Characters after a backslash. Without \\uXXXX each string has one spelling: equal property names
look equal, and the model cannot write half of a surrogate pair."""


class Converted(NamedTuple):
    """A converted schema, and what it leaves out."""

    schema: dict[str, Any]
    dropped: list[str]
    """JSON pointers of keywords."""


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
) -> Converted:
    """Like `checked_schema`, but some keywords are left out.

    Args:
        leniency: what is left out if it cannot be guaranteed.
        left_out: keywords that are left out everywhere, unless the leniency is NOTHING.

    Raises:
        SchemaError: it is not a schema, or no value matches it.
    """
    _check_text(schema)
    if leniency is Leniency.NOTHING:
        left_out = frozenset()
    converter = Converter(with_local_references(schema), leniency, left_out)
    try:
        checked = converter.convert()
    except RecursionError:
        raise SchemaError("", "is nested too deeply") from None
    definitions = converter.definitions
    places = {f"/$defs/{name}": member for name, member in definitions.items()}
    if not has_finite_value(checked, places):
        raise SchemaError("", "no finite JSON value fits it")
    keywords = dict(checked) if isinstance(checked, dict) else {}
    if definitions:
        keywords["$defs"] = definitions
    options = layout or {"whitespace_pattern": WHITESPACE}
    keywords["x-guidance"] = {"json_allowed_escapes": ESCAPES, **options}
    return Converted(keywords, list(dict.fromkeys(converter.dropped)))


def _check_text(schema: Any) -> None:
    if not isinstance(schema, dict | bool):
        raise SchemaError("", "must be an object, true or false")
    try:
        json.dumps(schema, allow_nan=False)
        json.dumps(schema, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise SchemaError("", "has a lone surrogate, which is no text") from None
    except (TypeError, ValueError, RecursionError):
        raise SchemaError("", "is not JSON, or nested too deeply") from None
