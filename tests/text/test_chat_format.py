"""Prompts of every chat format, against the goldens and for the conversations they leave open."""

from __future__ import annotations

from typing import Any

import pytest

from glmserve.errors import CheckpointError, InvalidRequestError
from glmserve.text import CHAT_FORMATS, ChatFormat, ChatMessage, Tokenizer, load_tokenizer
from glmserve.text.tools import Tool, ToolCall
from support.tool_events import Reply, streamed

WEATHER = Tool(
    "get_weather",
    "查询城市天气",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "城市"}},
        "required": ["city"],
    },
)


def system(content: str) -> ChatMessage:
    return ChatMessage("system", content)


def user(content: str) -> ChatMessage:
    return ChatMessage("user", content)


def assistant(content: str) -> ChatMessage:
    return ChatMessage("assistant", content)


def calls(*arguments: str, content: str = "") -> ChatMessage:
    """An assistant's calls of get_weather; their ids are "0", "1" and so on."""
    made = (ToolCall(str(n), "get_weather", text) for n, text in enumerate(arguments))
    return ChatMessage("assistant", content, tuple(made))


def result(content: str, call_id: str = "0") -> ChatMessage:
    return ChatMessage("tool", content, tool_call_id=call_id)


@pytest.fixture
def text_format(small_sentencepiece: Tokenizer) -> Any:
    """Prompt text of a conversation in a format that has no special tokens within."""

    def render(
        name: str, *messages: ChatMessage, tools: tuple[Tool, ...] = (), **options: Any
    ) -> str:
        ids = CHAT_FORMATS[name](small_sentencepiece).render(messages, tools, **options)
        return small_sentencepiece.decode(ids)

    return render


@pytest.fixture
def small_roles(train_sentencepiece: Any) -> ChatFormat:
    tokenizer = load_tokenizer(train_sentencepiece(), "chatglm3")
    return CHAT_FORMATS["chatglm3"](tokenizer)


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


def golden_message(item: dict[str, Any]) -> ChatMessage:
    """A message as upstream has it: a call's tool is its metadata, its result an observation."""
    if item["role"] == "observation":
        return result(item["content"])
    if item.get("metadata"):
        assert "北京" in item["content"]
        return calls('{"city": "北京"}')
    return ChatMessage(item["role"], item["content"])


@pytest.mark.parametrize("index", range(5))
def test_chatglm3_goldens(load_golden: Any, index: int) -> None:
    tokenizer, goldens = load_golden("chatglm3-6b")
    case = goldens["chats"][index]
    items = [*case["history"], {"role": case["role"], "content": case["query"]}]
    # The system message of the publisher's examples of tools is what the format writes itself.
    messages = [golden_message(item) for item in items if "tools" not in item]
    tools = [WEATHER] if len(messages) < len(items) else []
    assert CHAT_FORMATS["chatglm3"](tokenizer).render(messages, tools) == case["ids"]


@pytest.mark.parametrize("index", range(4))
def test_glm4_goldens(load_golden: Any, index: int) -> None:
    tokenizer, goldens = load_golden("glm-4-tiny")
    case = goldens["chats"][index]
    messages = [golden_message(item) for item in case["messages"]]
    tools = [WEATHER] if any("tools" in item for item in case["messages"]) else []
    assert CHAT_FORMATS["glm4"](tokenizer).render(messages, tools) == case["ids"]


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


def test_rounds_without_an_answer(text_format: Any) -> None:
    for name, gap, number in (("chatglm", "\n", 0), ("chatglm2", "\n\n", 1)):
        past = f"[Round {number}]{gap}问：a{gap}答：b{gap}"
        closed = text_format(name, user("a"), assistant("b"), begin_answer=False)
        assert closed == past
        closed = text_format(name, user("a"), assistant("b"), user("c"), begin_answer=False)
        assert closed == f"{past}[Round {number + 1}]{gap}问：c{gap}"
    code = (system("# language: Python"), user("# sort"))
    assert text_format("codegeex2", *code, begin_answer=False) == text_format("codegeex2", *code)


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
    ("messages", "prompt"),
    [
        ([user("a"), assistant("b")], "[Round 1]\n\n问：a\n\n答：b\n\n[Round 2]\n\n问：\n\n答："),
        ([assistant("b")], "[Round 1]\n\n问：\n\n答：b\n\n[Round 2]\n\n问：\n\n答："),
        ([system("a")], "[Round 1]\n\n问：a\n\n答："),
        ([system("a"), system("b")], "[Round 1]\n\n问：a\n\nb\n\n答："),
        ([user("a"), system("b")], "[Round 1]\n\n问：a\n\nb\n\n答："),
    ],
)
def test_chatglm2_without_a_last_question(
    text_format: Any, messages: list[ChatMessage], prompt: str
) -> None:
    assert text_format("chatglm2", *messages) == prompt


FORMATS = [
    ("chatglm-6b", "chatglm"),
    ("chatglm2-6b", "chatglm2"),
    ("codegeex2-6b", "codegeex2"),
    ("chatglm3-6b", "chatglm3"),
    ("glm-4-tiny", "glm4"),
]


@pytest.mark.parametrize(("model", "name"), FORMATS)
@pytest.mark.parametrize(
    "before",
    [
        [],
        [system("s")],
        [user("a")],
        [system("s"), user("a"), assistant("b"), user("c")],
        [user("a"), assistant("b"), system("s")],
    ],
)
def test_a_continued_message_is_the_beginning_of_the_answer(
    load_golden: Any, model: str, name: str, before: list[ChatMessage]
) -> None:
    tokenizer, _ = load_golden(model)
    chat_format = CHAT_FORMATS[name](tokenizer)
    begun = "The answer is"
    ids = chat_format.render([*before, assistant(begun)], continue_last=True)
    if name == "codegeex2":  # it has no roles: the prompt is code that ends where it ends
        text = "".join(f"{m.content}\n" for m in before) + begun
        assert ids == tokenizer.encode_prompt(text)
        return
    opening = chat_format.render(before) if before else ids[: -len(tokenizer.encode(begun))]
    metadata = tokenizer.encode("\n") if name in ("chatglm3", "glm4") else []
    if before:
        assert ids == [*opening, *metadata, *tokenizer.encode(begun)]
    assert ids[-len(tokenizer.encode(begun)) :] == tokenizer.encode(begun)


def test_chatglm2_joins_the_answers_that_it_continues(text_format: Any) -> None:
    tokenized = text_format("chatglm2", user("a"), assistant("b"), assistant("c"))
    assert tokenized.endswith("答：b\n\nc\n\n[Round 2]\n\n问：\n\n答：")


@pytest.mark.parametrize("name", ["chatglm2", "codegeex2"])
def test_messages_of_one_side_before_a_continued_one(
    small_sentencepiece: Tokenizer, name: str
) -> None:
    chat_format = CHAT_FORMATS[name](small_sentencepiece)
    several = [user("a"), assistant("b"), assistant("c")]
    separator = "\n\n" if name == "chatglm2" else "\n"
    joined = [user("a"), assistant(f"b{separator}c")]
    assert chat_format.render(several, continue_last=True) == chat_format.render(
        joined, continue_last=True
    )


@pytest.mark.parametrize(("model", "name"), FORMATS)
def test_whitespace_of_a_continuation_is_kept(load_golden: Any, model: str, name: str) -> None:
    tokenizer, _ = load_golden(model)
    continuation = CHAT_FORMATS[name](tokenizer).continuation_filter()
    assert continuation.push(" 42") + continuation.flush() == " 42"


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
    with pytest.raises(InvalidRequestError, match="the role 'function' is not one of") as error:
        chat_format.render([ChatMessage("function", "x")])
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


TAGGED_TOOLS = (
    "You can call these functions:\n"
    '{"name": "get_weather", "description": "查询城市天气", "parameters": {"type": "object", '
    '"properties": {"city": {"type": "string", "description": "城市"}}, "required": ["city"]}}\n'
    '{"name": "get_time", "parameters": {"type": "object", "properties": {}}}\n'
    "To call one, answer only:\n"
    '<tool_call>{"name": "...", "arguments": {...}}</tool_call>'
)


def tagged(arguments: str) -> str:
    return f'<tool_call>{{"name": "get_weather", "arguments": {arguments}}}</tool_call>'


def test_tools_in_a_plain_format(text_format: Any) -> None:
    city = '{"city": "a"}'
    prompt = text_format(
        "chatglm2",
        system("Be brief."),
        user("天气？"),
        calls(city, "", content="好。"),
        result("18"),
        result("19", "1"),
        assistant("ok"),
        user("hi"),
        tools=(WEATHER, Tool("get_time")),
    )
    assert prompt == (
        f"Be brief.\n\n{TAGGED_TOOLS}\n\n[Round 1]\n\n问：天气？\n\n"
        f"答：好。\n{tagged(city)}\n{tagged('{}')}\n\n"
        "[Round 2]\n\n问：<tool_response>18</tool_response>\n\n"
        "<tool_response>19</tool_response>\n\n答：ok\n\n[Round 3]\n\n问：hi\n\n答："
    )


def test_tools_in_code(text_format: Any) -> None:
    prompt = text_format("codegeex2", system("# Python"), user("x"), tools=(WEATHER,))
    assert prompt.startswith("# Python\nYou can call these functions:\n")
    assert prompt.endswith("</tool_call>\nx")


def test_calls_and_results_are_rendered_without_tools(text_format: Any) -> None:
    prompt = text_format("chatglm2", user("a"), calls("{}"), result("", "no such call"))
    assert prompt == (
        f"[Round 1]\n\n问：a\n\n答：{tagged('{}')}\n\n"
        "[Round 2]\n\n问：<tool_response></tool_response>\n\n答："
    )


def test_results_are_in_the_order_of_their_calls(text_format: Any) -> None:
    conversation = (user("a"), calls("{}", "{}", "{}"))
    ordered = text_format(
        "codegeex2", *conversation, *(result(i, i) for i in "012"), result("?", "?")
    )
    mixed = text_format("codegeex2", *conversation, *(result(i, i) for i in "2?01"))
    assert mixed == ordered


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (
            '{"city": "北京", "days": [1.5, true, null]}',
            "tool_call(city='北京', days=[1.5, True, None])",
        ),
        ('{"a b": {"c": "\'"}}', "tool_call(**{'a b': {'c': \"'\"}})"),
        ("", "tool_call()"),
        (" {} ", "tool_call()"),
        ("{city: 1}", "tool_call({city: 1})"),
        ("[1]", "tool_call([1])"),
        ('{"a": 1e999}', 'tool_call({"a": 1e999})'),
        ('{"a": ' + "[" * 9999, 'tool_call({"a": ' + "[" * 9999 + ")"),
    ],
)
def test_chatglm3_calls(small_roles: ChatFormat, arguments: str, code: str) -> None:
    encode, special = small_roles.tokenizer.encode, small_roles.tokenizer.special_ids
    ids = small_roles.render([user("a"), calls(arguments, content="Wait.")])
    turns = [
        *(special["<|assistant|>"], *encode("\n"), *encode("Wait.")),
        *(special["<|assistant|>"], *encode("get_weather\n"), *encode(f"```python\n{code}\n```")),
        special["<|assistant|>"],
    ]
    assert ids[-len(turns) :] == turns


def test_chatglm3_keeps_the_system_message(small_roles: ChatFormat) -> None:
    tools = (WEATHER,)
    ids = small_roles.render([system("Be brief."), user("a")], tools)
    text = small_roles.tokenizer.decode(ids)
    assert "Be brief.\nAnswer the following questions" in text
    assert ids.count(small_roles.tokenizer.special_ids["<|system|>"]) == 1


def test_glm4_keeps_empty_results_and_broken_arguments(glm4: ChatFormat) -> None:
    encode, special = glm4.tokenizer.encode, glm4.tokenizer.special_ids
    ids = glm4.render([user("a"), calls("{city"), result(""), assistant("")])
    assert ids[4:] == [
        *encode("a"),
        *(special["<|assistant|>"], *encode("get_weather\n"), *encode("{city")),
        *(special["<|observation|>"], *encode("\n")),
        special["<|assistant|>"],
    ]


def test_glm4_offers_each_tool(glm4: ChatFormat) -> None:
    ids = glm4.render([system("s"), user("a")], [WEATHER, Tool("get_time")])
    text = glm4.tokenizer.decode(ids)
    assert text.count("\n在调用上述函数时，请使用 Json 格式表示调用的参数。") == 2
    assert ids.count(glm4.tokenizer.special_ids["<|system|>"]) == 2


@pytest.mark.parametrize("name", ["chatglm2", "codegeex2", "chatglm3", "glm4"])
def test_parsers_and_grammars(
    small_sentencepiece: Tokenizer, small_roles: ChatFormat, glm4: ChatFormat, name: str
) -> None:
    formats = {"chatglm3": small_roles, "glm4": glm4}
    chat_format = formats.get(name) or CHAT_FORMATS[name](small_sentencepiece)
    response = {
        "chatglm3": "get_weather\n ```python\ntool_call(city='a')\n```",
        "glm4": 'get_weather\n{"city": "a"}',
    }.get(name, tagged('{"city": "a"}'))
    reply = streamed(chat_format.tool_parser([WEATHER]), response)
    assert reply == Reply("", [("get_weather", '{"city": "a"}')])
    assert "get_weather" in chat_format.tool_grammar([WEATHER], parallel=True)
    with pytest.raises(InvalidRequestError, match="there are no tools") as error:
        chat_format.tool_grammar([], parallel=False)
    assert error.value.param == "tools"
