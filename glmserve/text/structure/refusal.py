"""Says which part of a JSON schema is the reason why the schema as a whole is refused."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from glmserve.errors import InvalidRequestError
from glmserve.text.structure.build import REFUSED
from glmserve.text.structure.embedded_schema import embedded_parts
from glmserve.text.structure.schema.needed import needed_parts
from glmserve.text.structure.schema.problem import SchemaError
from glmserve.text.structure.schema.references import at_pointer, make_references_local
from glmserve.text.structure.structures import JsonSchema, Lark, Structure

_MAX_TRIED = 40
"""Parts of one schema. Each may cost a compilation."""

_UNMATCHED = ("Unsatisfiable schema", "no text has this structure", "no text can follow")
"""What errors of the engine and of the sandbox say of a structure that nothing matches."""

Try = Callable[[str], Awaitable[InvalidRequestError | None]]
"""Compiles the part of a schema at a JSON pointer; returns why it is refused, or None."""


def matches_nothing(error: InvalidRequestError) -> bool:
    """Whether a structure was refused because no text, or no finite value, matches it."""
    return isinstance(error, SchemaError) or any(said in error.message for said in _UNMATCHED)


def schemas_of(structure: Structure) -> Iterator[tuple[JsonSchema, str]]:
    """The schemas within a structure, each with the name of the tool that it belongs to, or ""."""
    if isinstance(structure, JsonSchema):
        yield structure, ""
    elif isinstance(structure, Lark):
        for part in embedded_parts(structure.text):
            yield JsonSchema(part["schema"], strict=not part["leniency"]), part["name"]


def about_tool(name: str, error: InvalidRequestError) -> InvalidRequestError:
    """An error about the parameters of a tool."""
    return InvalidRequestError.about(
        "tools", "{param}: the parameters of {name!r}: {reason}", name=name, reason=error.message
    )


async def named_part(schema: Any, error: InvalidRequestError, attempt: Try) -> InvalidRequestError:
    """An error that names the innermost part that is refused, and that every value needs.

    Args:
        schema: as the user sent it.
        error: why it is refused as a whole. It is returned if no part is the reason.
    """
    if isinstance(error, SchemaError) and error.place:
        return error
    root = copy.deepcopy(schema)
    tried, place = {""}, ""
    try:
        make_references_local(root)
        while found := await _refused_part(root, place, tried, attempt):
            place, error = found
    except (SchemaError, KeyError):
        return error
    if not place or (isinstance(error, SchemaError) and error.place):
        return error
    reason = error.problem if isinstance(error, SchemaError) else error.message
    reason = reason.removeprefix(REFUSED)
    return SchemaError(place, reason)


async def _refused_part(
    root: Any, place: str, tried: set[str], attempt: Try
) -> tuple[str, InvalidRequestError] | None:
    """A needed part of the schema at `place` that is refused, and why."""
    for part in needed_parts(root, place):
        if part in tried or len(tried) >= _MAX_TRIED:
            continue
        tried.add(part)
        at_pointer(root, part)
        if (error := await attempt(part)) is not None:
            return part, error
    return None
