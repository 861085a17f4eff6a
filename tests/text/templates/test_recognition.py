"""Templates of known models are served by glmserve's own formats, and by no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glmserve.errors import CheckpointError, OptionError
from glmserve.text import ChatMessage, Tokenizer, load_tokenizer
from glmserve.text.fine_tuned_formats import (
    ChatMLFormat,
    ChatMLPrefixFormat,
    GLM4OpenLineFormat,
    GLMEdgeFormat,
    GLMEdgeOpenLineFormat,
)
from glmserve.text.glm4_0414_formats import GLM40414Format
from glmserve.text.role_formats import ChatGLM3Format, GLM4Format
from glmserve.text.templates.files import ChatTemplates
from glmserve.text.templates.selection import ChatOptions, select_format
from glmserve.text.templates.template_format import TemplateFormat
from glmserve.text.tools import Tool
from support.slow import slow
from tests.text.templates.conftest import (
    CHATGLM3,
    CHATML,
    FOREIGN,
    GLM4,
    GLM4_0414,
    GLM4_HF,
    GLM_EDGE,
    Select,
)

OPEN_EDGE = GLM_EDGE.replace("<|assistant|>{% endif %}", "<|assistant|>\n{% endif %}")
QUESTION = [ChatMessage("user", "hi")]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (GLM4, GLM4Format),
        (GLM4_HF, GLM4OpenLineFormat),
        (GLM4_0414, GLM40414Format),
        (GLM_EDGE, GLMEdgeFormat),
        (OPEN_EDGE, GLMEdgeOpenLineFormat),
        (CHATML, ChatMLFormat),
        ("[gMASK]<sop>" + CHATML, ChatMLPrefixFormat),
    ],
)
def test_known_templates(select: Select, template: str, expected: type[Any]) -> None:
    selected = select(template)
    assert isinstance(selected.chat, expected)
    assert "recognised by the chat template" in selected.reason


@pytest.mark.parametrize(
    "template", [GLM4, GLM4_HF, GLM4_0414, GLM_EDGE, OPEN_EDGE, CHATML, "[gMASK]<sop>" + CHATML]
)
def test_conversations_without_an_answer(
    select: Select, tokenizer: Tokenizer, template: str
) -> None:
    known = select(template).chat
    assert known is not None
    written = TemplateFormat(tokenizer, ChatTemplates(Path("x"), {"default": template}, {}))
    answer = ChatMessage("assistant", "hello")
    for messages in (QUESTION, [*QUESTION, answer], [*QUESTION, answer, *QUESTION]):
        ids = known.render(messages, begin_answer=False)
        assert ids == written.render(messages, begin_answer=False)
        assert ids == known.render(messages)[: len(ids)]
    written.close()


@pytest.mark.parametrize(
    "template",
    [
        FOREIGN,
        CHATML.replace("{% for", "<|im_start|>system\nBe nice.<|im_end|>{{ '\n' }}{% for", 1),
        GLM4.replace("\n{{ item", "{{ item"),
        GLM4.replace("{% if add", "{% if tools %}{{ tools | tojson }}{% endif %}{% if add"),
        GLM_EDGE.replace("<|user|>", "<|assistant|>"),
    ],
)
def test_others_are_rendered(select: Select, template: str) -> None:
    selected = select(template)
    assert isinstance(selected.chat, TemplateFormat)
    assert selected.reason == "rendered by the chat template in chat_template.jinja"


def test_no_template(select: Select) -> None:
    selected = select(None)
    assert isinstance(selected.chat, GLM4Format)
    assert selected.reason == ""


def test_chatglm3(train_sentencepiece: Any, tmp_path: Path) -> None:
    """Its template writes the blank that its tokenizer adds to each text."""
    (tmp_path / "tokenizer.model").write_bytes(
        (train_sentencepiece() / "tokenizer.model").read_bytes()
    )
    config = {"name_or_path": "chatglm3-6b", "chat_template": CHATGLM3}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    selected = select_format(tmp_path, load_tokenizer(tmp_path), ChatOptions())
    assert isinstance(selected.chat, ChatGLM3Format)
    assert "recognised" in selected.reason


def test_the_users_choice(select: Select, tmp_path: Path) -> None:
    assert isinstance(select(FOREIGN, chat_template="native").chat, GLM4Format)
    assert select(FOREIGN, chat_template="none").chat is None
    named = select(FOREIGN, chat_format="chatml")
    assert isinstance(named.chat, ChatMLFormat)
    assert named.reason == "chatml, not the chat template"
    file = tmp_path / "own.jinja"
    file.write_text(GLM_EDGE)
    assert isinstance(select(FOREIGN, chat_template=str(file)).chat, GLMEdgeFormat)
    with pytest.raises(CheckpointError, match="no such file"):
        select(FOREIGN, chat_template=str(tmp_path / "missing"))
    with pytest.raises(OptionError, match="--chat-format nonsense"):
        select(FOREIGN, chat_format="nonsense")


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{% for m in messages %}", "line 1: Unexpected end of template"),
        ("", "it writes the same for different messages"),
        ("{% include 'other' %}", "TypeError: no loader"),
        ("{{ messages.nothing.at_all }}", "UndefinedError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{{ raise_exception('Only for\n experts') }}", "Only for experts"),
        ("{{ ''.__class__.__mro__ }}", "Jinja's sandbox forbids"),
        ("{{ messages.append(1) }}", "Jinja's sandbox forbids"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "Jinja's sandbox forbids"),
        ("{% for i in range(10**9) %}x{% endfor %}", "Range too big"),
        slow(
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "it takes over 2 seconds",
        ),
        ("{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}", "more than 16777216 charact"),
        ("{{ 'x' * 10**10 }}", "it needs too much memory"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "it nests too deeply"),
    ],
)
def test_hostile_and_broken_templates(select: Select, template: str, complaint: str) -> None:
    with pytest.raises(CheckpointError) as error:
        select(template)
    assert complaint in error.value.message
    assert "chat_template.jinja" in error.value.message
    assert "--chat-template native" in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": {"chat_template": GLM_EDGE}}, GLMEdgeFormat),
        (
            {
                "tokenizer_config.json": {
                    "chat_template": [
                        {"name": "rag", "template": FOREIGN},
                        {"name": "default", "template": GLM_EDGE},
                    ]
                }
            },
            GLMEdgeFormat,
        ),
        ({"chat_template.json": {"chat_template": GLM_EDGE}}, GLMEdgeFormat),
        (
            {
                "chat_template.json": {"chat_template": FOREIGN},
                "chat_template.jinja": GLM_EDGE,
            },
            GLMEdgeFormat,
        ),
        ({"tokenizer_config.json": {"chat_template": None}}, GLM4Format),
        ({"tokenizer_config.json": {"chat_format": "glm4", "chat_template": FOREIGN}}, GLM4Format),
    ],
)
def test_where_templates_are(
    select: Select, tmp_path: Path, glm4_dir: Path, files: dict[str, Any], expected: type[Any]
) -> None:
    select(None)
    for name, content in files.items():
        if isinstance(content, dict):
            known = tmp_path / name
            content = json.dumps(
                (json.loads(known.read_text()) if known.exists() else {}) | content
            )
        (tmp_path / name).write_text(content)
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(select_format(tmp_path, tokenizer, ChatOptions()).chat, expected)


@pytest.mark.parametrize("data", [[], [{"name": "rag", "template": "x"}], 5, [5]])
def test_no_usable_template(select: Select, tmp_path: Path, data: Any) -> None:
    select(None)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": data}))
    with pytest.raises(CheckpointError, match="no template with the name 'default'"):
        select_format(tmp_path, load_tokenizer(tmp_path), ChatOptions())


def test_tools_of_the_new_formats(select: Select) -> None:
    tools = [Tool("get_time", "The time", None)]
    edge = select(GLM_EDGE).chat
    assert edge is not None
    text = edge.tokenizer.decode(edge.render(QUESTION, tools), skip_special_tokens=False)
    assert text.startswith("<|system|>\nYou can call these functions:")
    assert text.endswith("<|user|>\nhi<|assistant|>")
    later = select(GLM4_0414).chat
    assert later is not None
    text = later.tokenizer.decode(later.render(QUESTION, tools), skip_special_tokens=False)
    assert text.startswith("[gMASK]<sop><|system|>\n# 可用工具\n## get_time\n\n{")
    open_line = select(GLM4_HF).chat
    assert open_line is not None
    assert open_line.tokenizer.decode(open_line.render(QUESTION)[-1:]) == "\n"
    assert open_line.render(QUESTION, tools)[-1] == open_line.tokenizer.special_ids["<|assistant|>"]


@pytest.mark.parametrize("template", [GLM4_HF, GLM4_0414, GLM_EDGE, CHATML, FOREIGN])
def test_every_format_can_require_a_call(select: Select, template: str) -> None:
    chat = select(template).chat
    assert chat is not None
    tools = [Tool("get_time", "The time", None)]
    for or_text in (False, True):
        assert "get_time" in chat.tool_grammar(tools, parallel=True, or_text=or_text)
