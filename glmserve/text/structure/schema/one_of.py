"""Rewrites `oneOf` for a grammar, which knows only `anyOf`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice
from typing import Any

from glmserve.text.structure.schema.exclusive import Target, are_exclusive
from glmserve.text.structure.schema.negation import negated
from glmserve.text.structure.schema.values import is_number

MAX_COMPARED = 200
"""Alternatives that are compared with each other."""
_MAX_OVERLAPPING = 300
"""Pairs of alternatives that may both match."""
_MAX_COMBINED = 256
"""Combinations of complements that one alternative may have."""


def exclusive_alternatives(value: list[Any], siblings: dict[str, Any], target: Target) -> list[Any]:
    """The alternatives of a oneOf, each without what others match.

    Args:
        siblings: keywords beside the oneOf, which say more about the values.

    Returns:
        `value` itself if the alternatives exclude each other as they are. An alternative is missing
        if it is not known what others do not match; all are if there are more than MAX_COMPARED.
    """
    if _have_different_values(value):
        return value
    if len(value) > MAX_COMPARED:
        return []
    overlapping: list[list[int]] = [[] for _ in value]
    for (index, one), (number, other) in combinations(enumerate(value), 2):
        if not are_exclusive(one, other, target):
            overlapping[index].append(number)
            overlapping[number].append(index)
    num_overlapping = sum(map(len, overlapping))
    if num_overlapping == 0:
        return value
    if num_overlapping > _MAX_OVERLAPPING:
        return []
    complements = [_sorted_complement(target(one)) for one in value]
    found = []
    for one, others in zip(value, overlapping, strict=True):
        known = {"allOf": [siblings, one]}
        per_schema = max(1, int(_MAX_COMBINED ** (1 / max(1, len(others)))))
        parts = [
            list(islice(_possible(complements[other], known, target), per_schema))
            for other in others
        ]
        if all(parts):
            found.append({"allOf": [one, *({"anyOf": part} for part in parts)]})
    return found


def _have_different_values(alternatives: list[Any]) -> bool:
    """Whether each alternative is a text or a number of its own, as in an annotated enum."""
    values = [one.get("const") if isinstance(one, dict) else None for one in alternatives]
    if not all(isinstance(value, str) or is_number(value) for value in values):
        return False
    return len(set(values)) == len(values)


def _sorted_complement(schema: Any) -> list[Any]:
    """What a schema does not match, the simplest first; [] if that is not known."""
    if schema is True:
        return [False]
    # An object without a required property is simpler than one with another value of it.
    return sorted(negated(schema), key=lambda part: isinstance(part, dict) and "required" in part)


def _possible(complement: list[Any], known: dict[str, Any], target: Target) -> Iterator[Any]:
    """The parts that may match together with what is known of a value."""
    for part in complement:
        if part is False or not are_exclusive(part, known, target):
            yield part
