"""Rewrites `oneOf` for a grammar, which knows only `anyOf`."""

from __future__ import annotations

from typing import Any

from glmserve.text.structure.schema.exclusive import Target, are_exclusive
from glmserve.text.structure.schema.negation import negated

_MAX_COMBINED = 256
"""Combinations of complements that one alternative may have."""


def exclusive_alternatives(value: list[Any], siblings: dict[str, Any], target: Target) -> list[Any]:
    """The alternatives of a oneOf, each without what others match.

    Args:
        siblings: keywords beside the oneOf, which say more about the values.

    Returns:
        `value` itself if the alternatives exclude each other as they are. An alternative is missing
        if it is not known what others do not match.
    """
    overlapping = [
        [
            other
            for number, other in enumerate(value)
            if number != index and not are_exclusive(one, other, target)
        ]
        for index, one in enumerate(value)
    ]
    if not any(overlapping):
        return value
    found = []
    for one, others in zip(value, overlapping, strict=True):
        complements = [_complement(one, other, siblings, target) for other in others]
        if all(complements):
            per_schema = max(1, int(_MAX_COMBINED ** (1 / max(1, len(others)))))
            parts = [{"anyOf": complement[:per_schema]} for complement in complements]
            found.append({"allOf": [one, *parts]})
    return found


def _complement(one: Any, other: Any, siblings: dict[str, Any], target: Target) -> list[Any]:
    """What `other` does not match, as far as it may match `one`; [] if that is not known."""
    if other is True:
        return [False]
    known = {"allOf": [siblings, one]}
    found = [part for part in negated(target(other)) if not are_exclusive(part, known, target)]
    # An object without a required property is simpler than one with another value of it.
    return sorted(found, key=lambda part: isinstance(part, dict) and "required" in part)
