"""Random models under random schemas: what they finish is valid, and none gets stuck."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from glmserve.text.structure import JsonObject, JsonSchema
from support.constrained_sampling import TASTES
from support.json_schemas import random_schema

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMAS = 240


def load(text: str) -> Any:
    """As json.loads, but strict about what it lets pass: names that repeat, NaN and infinity."""

    def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), f"names repeat in {text!r}"
        return dict(pairs)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {text!r}")

    text.encode()
    return json.loads(text, object_pairs_hook=no_repeats, parse_constant=refuse)


@pytest.mark.parametrize("block", range(8))
async def test_what_is_finished_is_valid(tiny: Any, block: int) -> None:
    tastes = list(TASTES)
    size = SCHEMAS // 8
    num_finished = 0
    for seed in range(block * size, (block + 1) * size):
        schema = random_schema(seed)
        compiled = await tiny.compiler.compile(JsonSchema(schema), stop_ids=tiny.stop_ids)
        for number in range(3):
            ids, ended = tiny.sampler.run(
                compiled.constraint(),
                taste=tastes[(seed + 2 * number) % len(tastes)],
                seed=seed,
                likes_to_stop=number != 1,
            )
            text = tiny.tokenizer.decode(ids)
            assert "\ufffd" not in text[:-4], "only the last character may be incomplete"
            if ended:
                num_finished += 1
                jsonschema.Draft202012Validator(schema).validate(load(text))
    assert num_finished > size, "most texts are meant to be finished"


@pytest.mark.parametrize("taste", TASTES)
async def test_a_json_object_is_an_object(tiny: Any, taste: str) -> None:
    compiled = await tiny.compiler.compile(JsonObject(), stop_ids=tiny.stop_ids)
    for seed in range(20):
        ids, ended = tiny.sampler.run(compiled.constraint(), taste=taste, seed=seed, limit=200)
        if ended:
            assert isinstance(load(tiny.tokenizer.decode(ids)), dict)


async def test_blanks_between_tokens_run_out(tiny: Any) -> None:
    """A model that loves blanks gets through, as no place takes more than a line and its indent."""
    schema = {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3}
    constraint = await tiny.constraint(JsonSchema(schema))
    ids, ended = tiny.sampler.run(constraint, taste="blanks", limit=500)
    assert ended
    assert len(load(tiny.tokenizer.decode(ids))) == 3


@pytest.mark.parametrize("indent", [None, 1, 2, 4, "\t"])
async def test_usual_layouts_are_possible(tiny: Any, indent: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array"}, "b": {"const": {}}}}
    text = json.dumps({"a": [1, [True, "x"], {"c": None}], "b": {}}, indent=indent)
    await follow(tiny, schema, text)


async def follow(tried: Any, schema: Any, text: str) -> None:
    """A model writes this text character by character, and then ends it."""
    constraint = await tried.constraint(JsonSchema(schema))
    tried.sampler.force(constraint, [char.encode() for char in text])
    assert constraint.is_finished


async def test_numbers_are_written_out_and_finite(tiny: Any) -> None:
    for schema in ({"type": "number"}, {"type": "integer"}, {}):
        constraint = await tiny.constraint(JsonSchema(schema))
        ids, _ = tiny.sampler.run(
            constraint, taste="digits and exponents", limit=900, likes_to_stop=False
        )
        text = tiny.tokenizer.decode(ids)
        assert "e" not in text.lower()
        assert len(text) < 400


async def test_a_name_never_repeats(tiny: Any) -> None:
    constraint = await tiny.constraint(JsonObject())
    tiny.sampler.force(constraint, [b"{", b'"', b"a", b'"', b":", b"1", b",", b'"', b"a"])
    allowed = tiny.sampler.allowed(constraint)
    closing = [i for i in allowed.nonzero()[0] if tiny.tokenizer.token_bytes(i).startswith(b'"')]
    assert not closing
    tiny.sampler.force(constraint, [b"b", b'"'])
