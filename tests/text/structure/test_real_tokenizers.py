"""The published tokenizers under constraints; skipped where their files are not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from glmserve.text.structure import Choice, JsonObject, JsonSchema, Regex
from support.slow import slow

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "ages": {"type": "array", "items": {"type": "integer", "maximum": 9}, "maxItems": 2},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "model",
    ["chatglm2-6b", *map(slow, ("chatglm-6b", "chatglm3-6b", "codegeex2-6b", "glm-4-tiny"))],
)
async def test_texts_have_their_structure(load_golden: Any, try_tokenizer: Any, model: str) -> None:
    tokenizer, _ = load_golden(model)
    tried = try_tokenizer(tokenizer)
    try:
        assert await tried.texts(Choice(("yes", "不是")), 20) == {"yes", "不是"}
        for text in await tried.texts(Regex("[0-9]{2}[^0-9]"), 10):
            assert re.fullmatch("[0-9]{2}[^0-9]", text)
        for text in await tried.texts(JsonSchema(SCHEMA), 10):
            assert json.loads(text)["name"] is not None
        for text in await tried.texts(JsonSchema(SCHEMA), 10, lead_in="[ \n]{0,2}"):
            assert json.loads(text)
        for taste in ("names", "long tokens"):
            compiled = await tried.compiler.compile(JsonObject(), stop_ids=tried.stop_ids)
            ids, ended = tried.sampler.run(compiled.constraint(), taste=taste, limit=60)
            if ended:
                assert isinstance(json.loads(tokenizer.decode(ids)), dict)
    finally:
        await tried.compiler.close()
