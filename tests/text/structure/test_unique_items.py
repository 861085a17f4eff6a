"""Arrays of different strings: the guard of JSON text sees to them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from glmserve.errors import InvalidRequestError
from glmserve.text.structure import JsonSchema, Lark
from glmserve.text.structure.embedded_schema import embedded_schema
from glmserve.text.structure.json_text import JsonText, unique_strings

pytestmark = pytest.mark.asyncio(loop_scope="module")

LETTERS = [*"abcdefghijkl", "ab", "abc", "é\n"]


def closed(items: Any, **more: Any) -> dict[str, Any]:
    tags = {"type": "array", "items": items, "uniqueItems": True, **more}
    properties = {"tags": {"anyOf": [{"type": "null"}, tags]}, "others": {"items": {"const": "a"}}}
    return {
        "type": "object",
        "properties": properties,
        "required": ["tags", "others"],
        "additionalProperties": False,
    }


def through_references() -> dict[str, Any]:
    schema = closed({"$ref": "#/$defs/tag"}, maxItems=4)
    tags = schema["properties"]["tags"]["anyOf"].pop()
    schema["properties"]["tags"]["anyOf"].append({"$ref": "#/$defs/tags"})
    definitions = {
        "tags": {"allOf": [{"$ref": "#/$defs/set"}]},
        "set": tags,
        "tag": {"type": "string"},
    }
    return {**schema, "$defs": definitions}


SCHEMAS = {
    "references": through_references(),
    "free": closed({"type": "string", "minLength": 1}, maxItems=4),
    "listed": closed({"enum": LETTERS}, minItems=9),
    "all": closed({"enum": LETTERS}, minItems=len(LETTERS)),
}


@pytest.mark.parametrize("name", SCHEMAS)
async def test_no_string_comes_twice(tiny: Any, name: str) -> None:
    structure, num_finished, num_arrays = JsonSchema(SCHEMAS[name]), 0, 0
    compiled = await tiny.compiler.compile(structure, stop_ids=tiny.stop_ids)
    for seed in range(12):
        ids, ended = tiny.sampler.run(compiled.constraint(), seed=seed, taste="names", limit=300)
        if ended:
            num_finished += 1
            value = json.loads(tiny.tokenizer.decode(ids))
            num_arrays += value["tags"] is not None
            jsonschema.validate(value, SCHEMAS[name])
    assert num_finished >= 6
    assert num_arrays >= 2


def bytes_of(text: str) -> list[bytes]:
    return [bytes([byte]) for byte in text.encode()]


async def test_a_repeated_string_cannot_be_closed(tiny: Any) -> None:
    constraint = await tiny.constraint(JsonSchema(SCHEMAS["free"]))
    tiny.sampler.force(constraint, bytes_of('{"tags":["x","x'))
    allowed = tiny.sampler.allowed(constraint)
    pieces = [tiny.tokenizer.token_bytes(int(i)) for i in allowed.nonzero()[0]]
    assert pieces and not any(piece.startswith(b'"') for piece in pieces)
    tiny.sampler.force(constraint, bytes_of('y"],"others": ["a", "a"]}'))
    assert constraint.is_finished


async def test_beside_calls_too(tiny: Any) -> None:
    rule = embedded_schema(SCHEMAS["free"], is_guarded=True)
    constraint = await tiny.constraint(Lark(f'start: "call" | {rule}', may_be_json=True))
    tiny.sampler.force(constraint, bytes_of('{"tags":["x","x'))
    allowed = tiny.sampler.allowed(constraint)
    pieces = [tiny.tokenizer.token_bytes(int(i)) for i in allowed.nonzero()[0]]
    assert pieces and not any(piece.startswith(b'"') for piece in pieces)


@pytest.mark.parametrize(
    "items",
    [
        {},
        {"type": "integer"},
        {"type": ["string", "null"]},
        # A string that is as long as it may be, and was written before, could not go on.
        {"type": "string", "maxLength": 3},
        {"type": "string", "pattern": "^[ab]$"},
        {"type": "string", "format": "date"},
    ],
)
async def test_other_items_are_refused(tiny: Any, items: Any) -> None:
    with pytest.raises(InvalidRequestError, match="uniqueItems is only supported for strings"):
        await tiny.constraint(JsonSchema(closed(items)))
    compiled = await tiny.compiler.compile(
        JsonSchema(closed(items), strict=False), stop_ids=tiny.stop_ids
    )
    assert compiled.dropped == ("#/properties/tags/anyOf/1/uniqueItems",)


async def test_an_array_is_known_by_its_name() -> None:
    unique = unique_strings({"tags": None, 'a"b': ["x", "y"]})
    assert JsonText(unique).push(b'{"others": ["a", "a"], "tags": [["a"], ["a"]], "x": "tags"}')
    assert not JsonText(unique).push(b'{"o": {"tags": ["a", "b", {"tags": "a"}, "a"]}}')
    assert JsonText(unique).push(b'{"a\\"b": ["y", "x"]}')
    assert not JsonText(unique).push(b'{"a\\"b": ["y", "z')
    copied = JsonText(unique)
    copied.push(b'{"tags": ["a"')
    assert not copied.copy().push(b', "a"') and copied.push(b', "b"')
