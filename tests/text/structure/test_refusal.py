"""A schema that nothing matches is refused, and the error names the part that is the reason."""

from __future__ import annotations

from typing import Any

import pytest

from glmserve.errors import InvalidRequestError
from glmserve.text.structure import JsonSchema, Lark
from glmserve.text.structure.embedded_schema import embedded_schema

pytestmark = pytest.mark.asyncio(loop_scope="module")

EMPTY = {"type": "string", "pattern": "^a$", "minLength": 3}
WRONG = {"type": "string", "enum": [1]}


def with_property(schema: Any, name: str = "a") -> dict[str, Any]:
    return {"type": "object", "properties": {"ok": {}, name: schema}, "required": [name]}


REFUSED: list[tuple[Any, str]] = [
    (with_property(EMPTY), "/properties/a:"),
    (with_property(False), "/properties/a:"),
    (with_property({"type": "integer", "minimum": 3, "maximum": 2}), "/properties/a:.*minimum is"),
    (with_property({"not": {}}), "/properties/a:"),
    (with_property(with_property(WRONG, "b/c")), "/properties/a/properties/b~1c:"),
    (with_property({"type": "array", "minItems": 1, "items": EMPTY}), "/properties/a/items:"),
    (
        with_property({"type": "array", "minItems": 2, "prefixItems": [{}, EMPTY]}),
        "/properties/a/prefixItems/1:",
    ),
    ({"allOf": [{"type": "string"}, EMPTY]}, "/allOf/1:"),
    ({**with_property({"$ref": "#/$defs/x"}), "$defs": {"x": EMPTY}}, "/\\$defs/x:"),
    (
        {
            **with_property({"$ref": "#/$defs/x"}),
            "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}, WRONG]}},
        },
        "/\\$defs/x:",
    ),
    (
        {"type": "object", "required": ["z"], "additionalProperties": WRONG},
        "/additionalProperties:",
    ),
]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("schema", "place"), REFUSED, ids=[place for _, place in REFUSED])
async def test_the_part_that_nothing_matches_is_named(
    tiny: Any, schema: Any, place: str, strict: bool
) -> None:
    with pytest.raises(InvalidRequestError, match=f"the schema at {place}"):
        await tiny.constraint(JsonSchema(schema, strict=strict), param="response_format")


async def test_the_part_of_a_tool_is_named(tiny: Any) -> None:
    rule = embedded_schema(with_property(EMPTY), name="look_up")
    with pytest.raises(InvalidRequestError, match="'look_up': the schema at /properties/a:"):
        await tiny.constraint(Lark(f"start: {rule}\n"))


async def test_what_nothing_matches_does_no_harm_where_it_is_not_needed(tiny: Any) -> None:
    definitions = {"x": False, "y": {"anyOf": [{"$ref": "#/$defs/y"}, WRONG]}}
    schema = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/x"},
            "b": {"anyOf": [{"$ref": "#/$defs/y"}, {"type": "null"}]},
        },
        "required": ["b"],
        "additionalProperties": False,
        "$defs": definitions,
    }
    texts = await tiny.texts(JsonSchema(schema), 8)
    assert {"".join(text.split()) for text in texts} == {'{"b":null}'}
