"""The tokenizer and chat format of the model that ships with glmserve."""

from __future__ import annotations

from pathlib import Path

import pytest

import glmserve
from glmserve.text import ChatMessage, load_tokenizer, read_name_hints, select_chat_format

GLM_TINY = Path(glmserve.__file__).parent / "assets" / "glm-tiny"


@pytest.mark.parametrize("text", ["Hello!", "你好，世界。", "🚀 👨‍👩‍👧‍👦", "  a\n\tb"])
def test_round_trip(text: str) -> None:
    tokenizer = load_tokenizer(GLM_TINY)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_chat_prompt() -> None:
    tokenizer = load_tokenizer(GLM_TINY)
    chat_format = select_chat_format(read_name_hints(GLM_TINY), tokenizer)
    assert chat_format.name == "chatglm2"
    ids = chat_format.render([ChatMessage("user", "Hi")])
    assert ids[:2] == [tokenizer.special_ids["[gMASK]"], tokenizer.special_ids["sop"]]
    assert tokenizer.decode(ids) == "[Round 1]\n\n问：Hi\n\n答："
