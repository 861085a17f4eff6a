"""What may be left out of a schema that cannot be guaranteed as a whole."""

from __future__ import annotations

from enum import IntEnum


class Leniency(IntEnum):
    """What is left out instead of being refused."""

    NOTHING = 0
    UNSUPPORTED = 1
    """Keywords that no grammar can hold."""
    MALFORMED = 2
    """Also keywords with values that the standard does not allow."""


_REWRITTEN = frozenset(
    "not oneOf if dependentRequired dependentSchemas contains uniqueItems propertyNames "
    "minProperties maxProperties unevaluatedItems unevaluatedProperties".split()
)
_DETAILS = frozenset(
    "anyOf allOf pattern patternProperties format multipleOf minimum maximum exclusiveMinimum "
    "exclusiveMaximum minLength maxLength minItems maxItems".split()
)
_SHAPE = frozenset(
    "$ref properties required additionalProperties items prefixItems enum const".split()
)

LEFT_OUT: tuple[frozenset[str], ...] = (
    frozenset(),
    _REWRITTEN,
    _REWRITTEN | _DETAILS,
    _REWRITTEN | _DETAILS | _SHAPE,
)
"""Keywords to leave out if the engine refuses a schema as a whole, which names no keyword: first
none, then more and more. In the end only the type is left."""
