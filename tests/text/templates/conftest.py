"""Tokenizers with the special tokens that chat templates use, and templates of known models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glmserve.text import Tokenizer, load_tokenizer
from glmserve.text.templates.selection import ChatOptions, SelectedFormat, select_format

GLM4 = (
    "[gMASK]<sop>{% for item in messages %}{% if item['content'] %}<|{{ item['role'] }}|>"
    "{{ item['metadata'] }}\n{{ item['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GLM4_HF = GLM4.replace("<|assistant|>{% endif %}", "<|assistant|>\n{% endif %}")
GLM4_0414 = (
    "[gMASK]<sop>{%- if tools -%}<|system|>\n# 可用工具{% for tool in tools %}"
    "{%- set function = tool.function %}\n\n## {{ function.name }}\n\n"
    "{{ function | tojson(indent=4, ensure_ascii=False) }}\n"
    "在调用上述函数时，请使用 Json 格式表示调用的参数。{%- endfor %}{%- endif -%}"
    "{%- for msg in messages %}{%- if msg.role == 'system' %}<|system|>\n{{ msg.content }}"
    "{%- endif %}{%- endfor %}{%- for m in messages if m.role != 'system' %}"
    "<|{{ m.role }}|>\n{{ m.content }}{%- endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GLM_EDGE = (
    "{% for item in messages %}{% if item['role'] == 'system' %}<|system|>\n{{ item['content'] }}"
    "{% elif item['role'] == 'user' %}<|user|>\n{{ item['content'] }}"
    "{% elif item['role'] == 'assistant' %}<|assistant|>\n{{ item['content'] }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"
)
CHATGLM3 = (
    "{% for message in messages %}{% if loop.first %}[gMASK]sop{% endif %}"
    "<|{{ message['role'] }}|>\n {{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FOREIGN = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role | upper }}] {{ m.content }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}[ASSISTANT] {% endif %}"
)

HERMES = (
    "{% if tools %}<|im_start|>system\n<tools>{% for tool in tools %}\n{{ tool | tojson }}"
    "{% endfor %}\n</tools><|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>"
    "{{ 'user' if m.role == 'tool' else m.role }}\n{% if m.role == 'tool' %}<tool_response>\n"
    "{{ m.content }}\n</tool_response>{% else %}{{ m.content }}{% endif %}"
    '{% for call in m.tool_calls %}\n<tool_call>\n{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The form of Hermes, which Qwen and many fine-tunes use."""

Select = Callable[..., SelectedFormat]


@pytest.fixture(scope="session")
def glm4_dir(small_tiktoken_dir: Path, small_tiktoken: Tokenizer, tmp_path_factory: Any) -> Path:
    """GLM-4's kind of tokenizer, with ChatML's tokens and a token that is not special."""
    directory: Path = tmp_path_factory.mktemp("templates") / "fine-tune"
    directory.mkdir()
    (directory / "tokenizer.model").write_bytes(
        (small_tiktoken_dir / "tokenizer.model").read_bytes()
    )
    names = [*sorted(small_tiktoken.special_ids, key=small_tiktoken.special_ids.__getitem__)]
    first = small_tiktoken.special_ids[names[0]]
    added = {
        str(first + i): {"content": name, "special": name != "<think>"}
        for i, name in enumerate([*names, "<|im_start|>", "<|im_end|>", "<think>"])
    }
    config = {"added_tokens_decoder": added, "bos_token": "<|endoftext|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="session")
def tokenizer(glm4_dir: Path) -> Tokenizer:
    return load_tokenizer(glm4_dir)


@pytest.fixture
def select(glm4_dir: Path, tokenizer: Tokenizer, tmp_path: Path) -> Iterator[Select]:
    """Call it with a template for the format that is selected for it."""
    selected: list[SelectedFormat] = []

    def run(template: str | None, **options: Any) -> SelectedFormat:
        for name in ("tokenizer.model", "tokenizer_config.json"):
            (tmp_path / name).write_bytes((glm4_dir / name).read_bytes())
        if template is not None:
            (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
        selected.append(select_format(tmp_path, tokenizer, ChatOptions(**options)))
        return selected[-1]

    yield run
    for one in selected:
        if one.chat is not None:
            one.chat.close()
