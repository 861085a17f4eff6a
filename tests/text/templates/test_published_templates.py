"""Prompts of our formats are what the published templates write, rendered by Jinja's sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from glmserve.text import ChatMessage, Tokenizer
from glmserve.text.fine_tuned_formats import GLMEdgeFormat
from glmserve.text.glm4_0414_formats import (
    GLM40414FirstLineFormat,
    GLMZ1Format,
    GLMZ1ToolsFormat,
)
from glmserve.text.templates.placeholders import Piece, PromptEncoder
from glmserve.text.templates.template_format import TemplateFormat
from glmserve.text.thoughts import begins_in_thoughts
from glmserve.text.tools import Tool, ToolCall
from tests.text.templates.conftest import GLM_EDGE, Select

_TOOLS = """\
{%- for tool in tools %}
    {%- set function = tool.function if tool.get("function") else tool %}

## {{ function.name }}

{{ function | tojson(indent=4, ensure_ascii=False) }}
在调用上述函数时，请使用 Json 格式表示调用的参数。
{%- endfor %}
{%- endif -%}

{%- for msg in messages %}
    {%- if msg.role == 'system' %}
<|system|>
{{ msg.content }}
    {%- endif %}
{%- endfor %}

{%- for message in messages if message.role != 'system' %}
    {%- set role = message['role'] %}
    {%- set content = message['content'] %}
    {%- set visible = VISIBLE %}
    {%- set meta = message.get("metadata", "") %}

    {%- if role == 'user' %}
<|user|>
{{ visible }}
    {%- elif role == 'assistant' and not meta %}
<|assistant|>
{{ visible }}
    {%- elif role == 'assistant' and meta %}
<|assistant|>{{ meta }}
{{ visible }}
    {%- elif role == 'observation' %}
<|observation|>
{{ visible }}
    {%- endif %}
{%- endfor %}
"""
_INTRODUCTION = (
    "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n"
)
_VISIBLE = "content.split('</think>')[-1].strip()"
_BEGIN = "[gMASK]<sop>\n{%- if tools -%}\n<|system|>\n"

GLM4_0414 = (
    _BEGIN
    + "# 可用工具\n"
    + _TOOLS.replace("{%- for tool", "{% for tool", 1).replace("VISIBLE", "content")
    + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GLM_Z1 = (
    _BEGIN
    + _INTRODUCTION
    + "# 可用工具\n"
    + _TOOLS.replace("VISIBLE", _VISIBLE)
    + "{% if add_generation_prompt %}<|assistant|>\n<think>{% endif %}"
)
GLM_Z1_TOOLS = (
    _BEGIN
    + "# 可用工具\n"
    + _TOOLS.replace("{%- for tool", "{% for tool", 1).replace("VISIBLE", _VISIBLE)
    + "{% if add_generation_prompt %}<|assistant|>\n<think>{% endif %}"
)
RUMINATION = (
    "[gMASK]<sop><|system|>\nYou research.\n"
    "{%- for message in messages if message.role != 'system' %}"
    "{%- set role = message['role'] %}{%- set content = message['content'] %}"
    "{%- set visible = content.split('</think>')[-1].strip() %}"
    "{%- if role == 'user' %}<|user|>\n{{ visible }}{%- elif role == 'assistant' %}<|assistant|>\n"
    "{{ visible }}{%- endif %}{%- endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [Tool("get_weather", "The weather 天气", SCHEMA), Tool("get_time", "The time", None)]
CALL = ToolCall("call_1", "get_weather", '{"city": "北京"}')
CONVERSATIONS = [
    [ChatMessage("user", "hi")],
    [ChatMessage("system", "Be brief."), ChatMessage("user", "你好 <|user|>")],
    [
        ChatMessage("user", "  hi  "),
        ChatMessage("assistant", "<think>\nHm.\n</think>\n\nHello."),
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "a </think> b"),
    ],
    [
        ChatMessage("user", "Weather?"),
        ChatMessage("assistant", "", (CALL,)),
        ChatMessage("tool", '{"degrees": 20}', tool_call_id="call_1"),
    ],
]


def rendered(file: Path, messages: list[ChatMessage], tools: list[Tool]) -> str:
    """What the template writes, with roles and metadata as it reads them."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    environment.filters["tojson"] = tojson  # as in transformers
    written = []
    for message in messages:
        role = "observation" if message.role == "tool" else message.role
        if message.content or not message.tool_calls:
            written.append({"role": role, "content": message.content})
        for call in message.tool_calls:
            written.append({"role": role, "metadata": call.name, "content": call.arguments})
    offered = [{"type": "function", "function": tool.signature()} for tool in tools]
    template = environment.from_string(file.read_text(encoding="utf-8"))
    return template.render(messages=written, tools=offered or None, add_generation_prompt=True)


def encoded(tokenizer: Tokenizer, text: str, users: list[str]) -> list[int]:
    """The ids of a rendered text, in which names of special tokens that users wrote are text."""
    pieces, rest = [], text
    for user in users:
        before, found, rest = rest.partition(user)
        assert found
        pieces += [Piece(before), Piece(user, is_users=True)]
    return PromptEncoder(tokenizer).encode([*pieces, Piece(rest)])


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (GLM4_0414, GLM40414FirstLineFormat),
        (GLM_Z1, GLMZ1Format),
        (GLM_Z1_TOOLS, GLMZ1ToolsFormat),
        (GLM_EDGE, GLMEdgeFormat),
    ],
)
def test_prompts_are_the_templates(
    select: Select, tmp_path: Path, tokenizer: Tokenizer, template: str, expected: type[Any]
) -> None:
    chat = select(template).chat
    assert type(chat) is expected
    file = tmp_path / "chat_template.jinja"
    for messages in CONVERSATIONS:
        for tools in ([], TOOLS):
            if expected is GLMEdgeFormat and (tools or messages[-1].role == "tool"):
                continue  # its template has no place for them
            users = ["你好 <|user|>"] if "<|user|>" in messages[-1].content else []
            want = encoded(tokenizer, rendered(file, messages, tools), users)
            assert chat.render(messages, tools) == want


def test_thoughts_of_z1(select: Select, tokenizer: Tokenizer) -> None:
    chat = select(GLM_Z1).chat
    assert chat is not None and chat.reasons
    question = [ChatMessage("user", "hi")]
    assert begins_in_thoughts(tokenizer, chat.render(question))
    closed = chat.with_variables({"enable_thinking": False}).render(question)
    assert tokenizer.decode(closed).endswith("\n<think></think>")
    assert not begins_in_thoughts(tokenizer, closed)
    begun = [*question, ChatMessage("assistant", "It")]
    continued = tokenizer.decode(chat.render(begun, continue_last=True), skip_special_tokens=False)
    assert continued.endswith("<|assistant|>\nIt")
    assert "get_time" in chat.tool_grammar(TOOLS, parallel=False)


def test_thoughts_of_a_rendered_template(select: Select) -> None:
    """The model opens its thoughts itself, or the template does."""
    chat = select(RUMINATION).chat
    assert isinstance(chat, TemplateFormat) and chat.reasons
    other = select(
        RUMINATION.replace("<|assistant|>{% endif", "<|assistant|>\n<think>{% endif")
    ).chat
    assert isinstance(other, TemplateFormat) and other.reasons
    assert begins_in_thoughts(other.tokenizer, other.render([ChatMessage("user", "hi")]))
    plain = select(RUMINATION.replace("</think>", "</thought>")).chat
    assert isinstance(plain, TemplateFormat) and not plain.reasons
