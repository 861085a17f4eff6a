"""Schemas as libraries write them are honoured with the guarantee."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, ConfigDict, Field

from support.schema_engine import Accepting

ZOD = json.loads((Path(__file__).parent / "zod4.json").read_text())
"""What z.toJSONSchema of zod 4.x makes of one object with a property of each kind."""

ZOD_INSTANCE = {
    "id": "123e4567-e89b-42d3-a456-426614174000",
    "email": "a.b@example.com",
    "age": None,
    "score": 1.5,
    "tags": ["a"],
    "point": [1, 2],
    "rest": ["a", 1, 2],
    "map": {"a": 1},
    "em": {"a": True, "b": False},
    "kind": "x",
    "lit": "on",
    "u": {"t": "b", "v": 3},
    "d": "2024-02-29",
    "dt": "2024-02-29T12:00:00Z",
    "dur": "P1DT2H",
}


@pytest.mark.parametrize("draft", ZOD)
def test_zod(draft: str) -> None:
    schema = ZOD[draft]
    properties = {name: schema["properties"][name] for name in ZOD_INSTANCE}
    checked = {**schema, "required": [*ZOD_INSTANCE], "properties": properties}
    jsonschema.validate(ZOD_INSTANCE, checked)
    accepts = Accepting(checked)
    assert accepts(ZOD_INSTANCE)
    for name, bad in (
        ("email", "a..b@example.com"),
        ("point", [1]),
        ("point", [1, 2, 3]),
        ("rest", [1]),
        ("u", {"t": "b", "v": "x"}),
        ("d", "2023-02-29"),
        ("dur", "P"),
        ("em", {"c": True}),
    ):
        assert not accepts({**ZOD_INSTANCE, name: bad}), name


@pytest.mark.parametrize("draft", ZOD)
def test_every_kind_of_zod_is_honoured(draft: str) -> None:
    for name, member in ZOD[draft]["properties"].items():
        Accepting({**ZOD[draft], "properties": {name: member}, "required": []})


class Address(BaseModel):
    """An address."""

    street: str = Field(max_length=40)
    zip_code: str = Field(pattern=r"^\d{5}$")


class Person(BaseModel):
    """A person."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, examples=["Ann"], description="first and last")
    age: int | None = Field(None, ge=0, lt=150)
    weight: float = Field(gt=0, le=0.5)
    address: Address | None = None
    roles: set[Literal["admin", "user", "guest"]] = Field(default_factory=set)
    pair: tuple[int, str] = (1, "a")
    scores: dict[str, float] = Field(default_factory=dict)
    friends: list[Person] = Field(default_factory=list)


def test_pydantic() -> None:
    accepts = Accepting(Person.model_json_schema())
    ann = {"name": "Ann", "age": None, "weight": 0.25, "roles": ["user", "admin"], "pair": [3, "x"]}
    for instance in (ann, {**ann, "friends": [ann]}):
        Person.model_validate(instance)
        assert accepts(instance)
    for bad in ({"weight": 0}, {"roles": ["user", "user"]}, {"pair": [1]}, {"other": 1}):
        assert not accepts({**ann, **bad}), bad


GO = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/api/order",
    "$ref": "#/$defs/Order",
    "$defs": {
        "Item": {
            "properties": {
                "sku": {"type": "string"},
                "count": {"type": "integer", "format": "int64"},
            },
            "additionalProperties": False,
            "type": "object",
            "required": ["sku"],
        },
        "Order": {
            "properties": {
                "id": {"type": "integer", "maximum": 9223372036854775807},
                "items": {"items": {"$ref": "#/$defs/Item"}, "type": "array"},
                "at": {"type": "string", "format": "date-time"},
                "data": {"type": "string", "contentEncoding": "base64"},
                "meta": {"patternProperties": {".*": {"type": "string"}}, "type": "object"},
            },
            "additionalProperties": False,
            "type": "object",
            "required": ["id", "items"],
        },
    },
}
"""github.com/invopop/jsonschema."""

DOTNET = {
    "type": "object",
    "properties": {
        "Name": {"type": ["string", "null"]},
        "Age": {"type": "integer"},
        "Parent": {
            "type": ["object", "null"],
            "properties": {"Name": {"type": ["string", "null"]}, "Age": {"type": "integer"}},
        },
        "Other": {"$ref": "#/properties/Parent"},
        "Kind": {"enum": ["A", "B", None]},
        "Price": {"type": ["string", "number"], "pattern": r"^-?(?:0|[1-9]\d*)(?:\.\d+)?$"},
    },
    "required": ["Name", "Age"],
}
"""System.Text.Json.Schema.JsonSchemaExporter."""

OPENAPI = {
    "type": "object",
    "required": ["id", "pet"],
    "properties": {
        "id": {"type": "integer", "format": "int32", "minimum": 1, "exclusiveMinimum": True},
        "nick": {"type": "string", "nullable": True, "example": "Rex"},
        "photo": {"type": "string", "format": "byte", "readOnly": True},
        "secret": {"type": "string", "format": "password", "writeOnly": True},
        "pet": {
            "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
            "discriminator": {"propertyName": "kind"},
        },
    },
    "components": {
        "schemas": {
            "Cat": {
                "type": "object",
                "required": ["kind"],
                "properties": {"kind": {"enum": ["cat"]}, "lives": {"type": "integer"}},
                "xml": {"name": "cat"},
            },
            "Dog": {
                "allOf": [
                    {
                        "type": "object",
                        "required": ["kind"],
                        "properties": {"kind": {"enum": ["dog"]}},
                    },
                    {"type": "object", "properties": {"bark": {"type": "boolean"}}},
                ],
            },
        }
    },
}

RECORDED = [
    (
        GO,
        [{"id": 5, "items": [{"sku": "a", "count": 2}], "meta": {"k": "v"}}],
        [{"id": 5}, {"id": 5, "items": [{"sku": 3}]}, {"id": 5, "items": [], "meta": {"k": 1}}],
    ),
    (
        DOTNET,
        [{"Name": None, "Age": 3, "Other": {"Name": "x"}, "Kind": None, "Price": "1.5"}],
        [{"Name": 3, "Age": 3}, {"Name": "a", "Age": 3, "Other": 3}],
    ),
    (
        OPENAPI,
        [{"id": 2, "nick": None, "pet": {"kind": "dog", "bark": True}}],
        [{"id": 1, "pet": {"kind": "cat"}}, {"id": 2, "pet": {"kind": "cow"}}],
    ),
]


@pytest.mark.parametrize(("schema", "good", "bad"), RECORDED, ids=["Go", ".NET", "OpenAPI"])
def test_recorded(schema: Any, good: list[Any], bad: list[Any]) -> None:
    accepts = Accepting(schema)
    for instance in good:
        assert accepts(instance), instance
    for instance in bad:
        assert not accepts(instance), instance
