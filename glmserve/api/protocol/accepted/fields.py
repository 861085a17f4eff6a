"""Neutral fields and hints: what they are, and whether a value is accepted.

A *neutral* field asks for something that this server cannot do, but its neutral values ask for
nothing. They are honoured by doing nothing; every other value is refused by the field's name.

A *hint* changes no answer, whatever its value. It is accepted without effect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_JSON_NAMES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


@dataclass(frozen=True)
class AcceptedField:
    """A field of an object in a request; see `neutral` and `hint`."""

    name: str
    clients: str
    """The programs that send the field, for the guide."""
    meaning: str
    """What the field asks for elsewhere; for a hint also why it changes nothing here."""
    values: tuple[Any, ...] = ()
    """The neutral values. Empty for a hint."""
    types: tuple[type, ...] = ()
    """Types of a hint's values, in Python's terms. Empty: any type."""
    instead: str = ""
    """Why other values are refused, and what to send in their place."""

    @property
    def is_neutral(self) -> bool:
        return bool(self.values)

    def refusal(self, value: Any) -> str | None:
        """Why the value is not accepted, or None if it is. `value` is decoded JSON, not null."""
        if self.is_neutral:
            if any(_is_same(value, known) for known in self.values):
                return None
            return f"not supported, except {self.possible}: {self.instead}"
        if not self.types or type(value) in self.types:
            return None
        return f"must be of type {self.possible}"

    @property
    def possible(self) -> str:
        """The accepted values, or their types, as a client reads them."""
        if self.is_neutral:
            return " or ".join(map(json.dumps, self.values))
        return " or ".join(_JSON_NAMES[kind] for kind in self.types) or "any value"

    def json_schema(self) -> dict[str, Any]:
        """The field in the OpenAPI document."""
        if self.is_neutral:
            return {"enum": list(self.values), "description": f"{self.meaning} {self.instead}"}
        described = {"description": f"{self.meaning} Has no effect."}
        return (
            {"type": [_JSON_NAMES[t] for t in self.types], **described} if self.types else described
        )


AcceptedFields = Mapping[str, AcceptedField]
"""The accepted fields of one object, by name."""


def neutral(
    name: str, values: Sequence[Any], clients: str, meaning: str, instead: str
) -> AcceptedField:
    """A field of which only some values ask for nothing.

    Args:
        values: these values, as decoded JSON. They are compared with their types: true is not 1,
            but 1 is 1.0. null needs no mention: a field that is null is as good as absent.
        clients: programs that send the field.
        meaning: a sentence that says what the field asks for.
        instead: why another value is refused, and what to do; it continues a sentence.
    """
    if not values:
        raise ValueError(f"{name}: a neutral field needs its values")
    return AcceptedField(name, clients, meaning, tuple(values), instead=instead)


def hint(name: str, clients: str, meaning: str, *types: type) -> AcceptedField:
    """A field of which no value changes an answer.

    Args:
        clients: programs that send the field.
        meaning: a sentence that says what the field tells other servers.
        types: of its values: bool, int, float (which includes int), str, list, dict. None given:
            any.
    """
    return AcceptedField(name, clients, meaning, types=(*types, int) if float in types else types)


def table(*fields: AcceptedField, also: AcceptedFields | None = None) -> AcceptedFields:
    """The fields of one object.

    Args:
        also: another table, the fields of which this object has as well.
    """
    merged = dict(also or {})
    for field in fields:
        if field.name in merged:
            raise ValueError(f"{field.name} is in the table twice")
        merged[field.name] = field
    return merged


def _is_same(value: Any, known: Any) -> bool:
    """Equality of JSON values: Python's, but true is not 1."""
    return isinstance(value, bool) == isinstance(known, bool) and bool(value == known)
