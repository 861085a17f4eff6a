"""The path of a wrong value, as the client wrote it.

pydantic's locations also name the member of a union that reported an error: its tag, or its type.
A tag may be equal to the name of a field, so only the schema tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

_Schema = Mapping[str, Any]
_WRAPPERS = ("schema", "wrapped_schema")
"""Keys under which a schema has the one schema that it adds something to."""


def field_path(model: type[BaseModel], location: Sequence[str | int]) -> list[str | int]:
    """The parts of the location that are fields, keys or indices.

    Args:
        location: `loc` of an error of this model.
    """
    root: _Schema = model.__pydantic_core_schema__
    definitions = {s["ref"]: s for s in root.get("definitions", ())}
    path: list[str | int] = []
    schemas: list[_Schema] = [root]
    for part in location:
        schemas = [bare for schema in schemas for bare in _bare(schema, definitions)]
        inner = [s for schema in schemas for s in _inside(schema, part)]
        if inner:
            path.append(part)
            schemas = inner
        else:
            schemas = [m for schema in schemas for m in _members(schema, part)]
    return path


def _bare(schema: _Schema, definitions: Mapping[str, _Schema]) -> Iterator[_Schema]:
    """The schema without what only checks or changes its value."""
    while True:
        if schema["type"] == "definition-ref":
            schema = definitions[schema["schema_ref"]]
        elif schema["type"] in ("list", "dict", "tagged-union", "union", "model-fields"):
            yield schema
            return
        elif wrapped := [schema[key] for key in _WRAPPERS if isinstance(schema.get(key), dict)]:
            schema = wrapped[0]
        else:
            return


def _inside(schema: _Schema, part: str | int) -> Iterator[_Schema]:
    """The schemas of the value that has this name or index in a value of the schema."""
    match schema["type"]:
        case "model-fields":
            for name, field in schema["fields"].items():
                if part == field.get("validation_alias", name):
                    yield field["schema"]
        case "list" if isinstance(part, int):
            yield schema.get("items_schema", {"type": "any"})
        case "dict":
            yield schema.get("values_schema", {"type": "any"})


def _members(schema: _Schema, part: str | int) -> Iterator[_Schema]:
    """The members of a union that the part may stand for."""
    match schema["type"]:
        case "tagged-union":
            if part in schema["choices"]:
                yield schema["choices"][part]
        case "union":
            for choice in schema["choices"]:
                yield choice[0] if isinstance(choice, tuple) else choice
