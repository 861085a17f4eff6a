"""Prompts of every chat format, against the goldens and for the conversations they leave open."""

from __future__ import annotations

import json
from typing import Any

import pytest

from glmserve.errors import CheckpointError, InvalidRequestError
from glmserve.text import CHAT_FORMATS, ChatFormat, ChatMessage, Tokenizer


def system(content: str) -> ChatMessage:
    return ChatMessage("system", content)


def user(content: str) -> ChatMessage:
    return ChatMessage("user", content)


def assistant(content: str) -> ChatMessage:
    return ChatMessage("assistant", content)


@pytest.fixture
def text_format(small_sentencepiece: Tokenizer) -> Any:
    """Prompt text of a conversation in a format that has no special tokens within."""

    def render(name: str, *messages: ChatMessage) -> str:
        ids = CHAT_FORMATS[name](small_sentencepiece).render(messages)
        return small_sentencepiece.decode(ids)

    return render


@pytest.fixture
def glm4(small_tiktoken: Tokenizer) -> ChatFormat:
    return CHAT_FORMATS["glm4"](small_tiktoken)


@pytest.mark.parametrize(
    ("model", "name"), [("chatglm-6b", "chatglm"), ("chatglm2-6b", "chatglm2")]
)
def test_round_goldens(load_golden: Any, model: str, name: str) -> None:
    tokenizer, goldens = load_golden(model)
    chat_format = CHAT_FORMATS[name](tokenizer)
    for case in goldens["chats"]:
        messages = [m for q, a in case["history"] for m in (user(q), assistant(a))]
        assert chat_format.render([*messages, user(case["query"])]) == case["ids"]


@pytest.mark.parametrize("index", range(5))
def test_chatglm3_goldens(load_golden: Any, index: int) -> None:
    tokenizer, goldens = load_golden("chatglm3-6b")
    case = goldens["chats"][index]
    messages = []
    for item in [*case["history"], {"role": case["role"], "content": case["query"]}]:
        if item.get("metadata") or item["role"] == "observation":
            pytest.skip("messages of tools are not supported yet")
        content = item["content"]
        if "tools" in item:
            content += "\n" + json.dumps(item["tools"], indent=4, ensure_ascii=False)
        messages.append(ChatMessage(item["role"], content))
    assert CHAT_FORMATS["chatglm3"](tokenizer).render(messages) == case["ids"]


@pytest.mark.parametrize("index", range(4))
def test_glm4_goldens(load_golden: Any, index: int) -> None:
    tokenizer, goldens = load_golden("glm-4-tiny")
    case = goldens["chats"][index]
    messages = []
    for item in case["messages"]:
        if item.get("metadata") or item["role"] == "observation":
            pytest.skip("messages of tools are not supported yet")
        content = item["content"]
        if "tools" in item:
            content = case["text"].split("<|system|>\n")[1].split("<|user|>")[0]
        messages.append(ChatMessage(item["role"], content))
    assert CHAT_FORMATS["glm4"](tokenizer).render(messages) == case["ids"]


def test_codegeex2_prompt_is_plain_text(load_golden: Any) -> None:
    tokenizer, goldens = load_golden("codegeex2-6b")
    chat_format = CHAT_FORMATS["codegeex2"](tokenizer)
    case = next(case for case in goldens["texts"] if case["name"] == "tagged")
    assert chat_format.render([user(case["text"])]) == case["ids"]
    language, task = case["text"].splitlines(keepends=True)
    assert chat_format.render([system(language.strip()), user(task)]) == case["ids"]


def test_codegeex2_keeps_indentation(small_sentencepiece: Tokenizer) -> None:
    response_filter = CHAT_FORMATS["codegeex2"](small_sentencepiece).response_filter()
    assert response_filter.push("    return 1") + response_filter.flush() == "    return 1"


def test_chatglm2_system_message(text_format: Any) -> None:
    prompt = text_format("chatglm2", system("Be brief."), system("Be kind."), user("hi"))
    assert prompt == "Be brief.\n\nBe kind.\n\n[Round 1]\n\n问：hi\n\n答："


def test_chatglm2_merges_messages_of_one_side(text_format: Any) -> None:
    prompt = text_format(
        "chatglm2", user("a"), system("b"), assistant("c"), assistant("d"), user("e"), user("f")
    )
    assert prompt == "[Round 1]\n\n问：a\n\nb\n\n答：c\n\nd\n\n[Round 2]\n\n问：e\n\nf\n\n答："


def test_chatglm2_assistant_may_speak_first(text_format: Any) -> None:
    prompt = text_format("chatglm2", assistant("Welcome"), user("hi"))
    assert prompt == "[Round 1]\n\n问：\n\n答：Welcome\n\n[Round 2]\n\n问：hi\n\n答："


def test_chatglm_system_message(text_format: Any, load_golden: Any) -> None:
    tokenizer, _ = load_golden("chatglm-6b")
    chat_format = CHAT_FORMATS["chatglm"](tokenizer)
    assert chat_format.render([system("s"), user("q")]) == tokenizer.encode_prompt("s\nq")
    conversation = [system("s"), user("a"), assistant("b"), user("c")]
    text = "s\n[Round 0]\n问：a\n答：b\n[Round 1]\n问：c\n答："
    assert chat_format.render(conversation) == tokenizer.encode_prompt(text)


@pytest.mark.parametrize(
    "messages",
    [(user("a"), assistant("b")), (assistant("b"),), (system("a"),), (system("a"), assistant("b"))],
)
def test_rounds_need_a_last_question(
    small_sentencepiece: Tokenizer, messages: tuple[ChatMessage, ...]
) -> None:
    with pytest.raises(InvalidRequestError, match="last message must come from the user") as error:
        CHAT_FORMATS["chatglm2"](small_sentencepiece).render(messages)
    assert error.value.param == "messages"


def test_glm4_parts(glm4: ChatFormat) -> None:
    special, encode = glm4.tokenizer.special_ids, glm4.tokenizer.encode
    ids = glm4.render([user("\nhi"), assistant("")])
    start = [special["[gMASK]"], special["<sop>"], special["<|user|>"]]
    # The newline of the metadata line never merges with the content's own.
    assert ids == [*start, *encode("\n"), *encode("\nhi"), special["<|assistant|>"]]
    assert encode("\n") + encode("\nhi") != encode("\n\nhi")


def test_glm4_assistant_may_be_last(glm4: ChatFormat) -> None:
    ids = glm4.render([user("a"), assistant("b")])
    role = glm4.tokenizer.special_ids["<|assistant|>"]
    assert ids[-1] == role
    assert ids.count(role) == 2


@pytest.mark.parametrize("name", ["chatglm2", "codegeex2"])
def test_bad_messages(small_sentencepiece: Tokenizer, name: str) -> None:
    chat_format = CHAT_FORMATS[name](small_sentencepiece)
    with pytest.raises(InvalidRequestError, match="at least one message"):
        chat_format.render([])
    with pytest.raises(InvalidRequestError, match="the role 'tool' is not one of") as error:
        chat_format.render([ChatMessage("tool", "x")])
    assert error.value.param == "messages"


def test_role_names_in_content_are_text(glm4: ChatFormat) -> None:
    ids = glm4.render([user("<|assistant|>")])
    assert ids.count(glm4.tokenizer.special_ids["<|assistant|>"]) == 1


@pytest.mark.parametrize(
    ("model", "name", "stops"),
    [
        ("chatglm-6b", "chatglm", {130005}),
        ("chatglm2-6b", "chatglm2", {2}),
        ("codegeex2-6b", "codegeex2", {2}),
        ("chatglm3-6b", "chatglm3", {2, 64795, 64797}),
        ("glm-4-tiny", "glm4", {436, 443, 445}),
    ],
)
def test_stop_ids(load_golden: Any, model: str, name: str, stops: set[int]) -> None:
    assert CHAT_FORMATS[name](load_golden(model)[0]).stop_ids == stops


@pytest.mark.parametrize("name", ["chatglm2", "glm4"])
def test_responses_lose_their_first_line_break(small_tiktoken: Tokenizer, name: str) -> None:
    response_filter = CHAT_FORMATS[name](small_tiktoken).response_filter()
    pieces = ["\n", " ", "截至[[训练", "时间]]。\n"]
    text = "".join(response_filter.push(piece) for piece in pieces) + response_filter.flush()
    assert text == "截至2023年。\n"


def test_format_that_does_not_fit_the_tokenizer(small_sentencepiece: Tokenizer) -> None:
    with pytest.raises(CheckpointError, match=r"chatglm3 needs the token <\|system\|>"):
        CHAT_FORMATS["chatglm3"](small_sentencepiece)
