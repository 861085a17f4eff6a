"""What is read, in windows: glm-tiny's tokenizer."""

from __future__ import annotations

import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from glmserve.evaluation import conversation_windows, text_windows
from glmserve.text import ChatFormat, Tokenizer, load_tokenizer, select_chat_format


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(EMBEDDED_CHECKPOINT, None)


@pytest.fixture(scope="module")
def chat(tokenizer: Tokenizer) -> ChatFormat:
    return select_chat_format(["chatglm2"], tokenizer)


def test_a_text_is_cut(tokenizer: Tokenizer) -> None:
    text = "从前，一个小模型住在安静的服务器里。" * 4
    ids = tokenizer.encode(text)
    windows = text_windows(tokenizer, text, 10, 25)
    assert [len(w.ids) for w in windows] == [10, 10, 5]
    assert [t for w in windows for t in w.ids] == ids[:25]
    assert {w.first for w in windows} == {1}


def test_a_token_alone_is_not_predicted(tokenizer: Tokenizer) -> None:
    assert [len(w.ids) for w in text_windows(tokenizer, "一二三四五六七" * 9, 10, 21)] == [10, 10]
    assert text_windows(tokenizer, "", 10, 21) == []


def test_conversations(tokenizer: Tokenizer, chat: ChatFormat) -> None:
    windows = conversation_windows(tokenizer, chat, 512, 2000)
    assert windows == conversation_windows(tokenizer, chat, 512, 2000)
    assert 1500 < sum(len(w.ids) for w in windows) <= 2000
    answers = [tokenizer.decode(w.ids[w.first :]) for w in windows]
    assert any(answer.isascii() for answer in answers)
    assert any("。" in answer for answer in answers)
    assert all("答：" in tokenizer.decode(w.ids[: w.first]) for w in windows)


def test_conversations_that_are_too_long_are_left_out(
    tokenizer: Tokenizer, chat: ChatFormat
) -> None:
    windows = conversation_windows(tokenizer, chat, 40, 2000)
    assert windows
    assert max(len(w.ids) for w in windows) <= 40
