"""Formats with role tokens, of models trained to call tools: ChatGLM3 and GLM-4."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import ClassVar

from glmserve.text.chat_format import ChatFormat, ChatMessage
from glmserve.text.tokenizer import Tokenizer
from glmserve.text.tools import Tool, ToolCall, ToolParser
from glmserve.text.tools.json_text import read_json
from glmserve.text.tools.named import NamedJsonParser, NamedPythonParser
from glmserve.text.tools.named_grammar import json_call_grammar, python_call_grammar
from glmserve.text.tools.python_call import FUNCTION, write_python_call


class _RoleFormat(ChatFormat):
    """For each message `<|role|>`, a metadata line and the content; `<|assistant|>` at the end.

    Metadata and content are encoded separately. So each gets its own dummy blank if the tokenizer
    adds one, and no text can become a role token. The model writes its metadata line itself: it is
    empty, or the name of a tool, and then the content is the arguments. A tool's result is an
    observation. The models make one call in a turn, so several calls become several turns.

    Messages keep their order. If the last one is an assistant message that is not to be continued,
    the model adds another, as in upstream's chat template.
    """

    calls_anywhere = False
    stop_tokens = ("<|user|>", "<|observation|>")

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._no_metadata = tokenizer.encode("\n")

    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        assistant = self.tokenizer.special_ids["<|assistant|>"]
        return [*self._render_closed(messages, tools), assistant]

    def _render_closed(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        ids = self.tokenizer.encode_prompt("")
        for message in self._with_tools(messages, tools) if tools else messages:
            ids += self._message(message)
        return ids

    def _render_open(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool], begun: str
    ) -> list[int]:
        return [
            *self._render(messages, tools),
            *self._no_metadata,
            *self.tokenizer.encode(begun),
        ]

    def _message(self, message: ChatMessage) -> Iterator[int]:
        if message.role == "tool":
            yield from self._turn("observation", message.content)
        elif message.content or not message.tool_calls:
            yield from self._turn(message.role, message.content)
        for call in message.tool_calls:
            yield from self._turn("assistant", self._arguments(call), call.name)

    def _turn(self, role: str, content: str, metadata: str = "") -> Iterator[int]:
        yield self.tokenizer.special_ids[f"<|{role}|>"]
        yield from self.tokenizer.encode(f"{metadata}\n") if metadata else self._no_metadata
        yield from self.tokenizer.encode(content)

    @abstractmethod
    def _with_tools(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool]
    ) -> list[ChatMessage]:
        """The messages, with a system message that describes the tools."""

    @abstractmethod
    def _arguments(self, call: ToolCall) -> str:
        """The arguments of a past call, in the form in which the model writes them."""


class ChatGLM3Format(_RoleFormat):
    """ChatGLM3-6B: tools as JSON in the system message, calls as Python in a code block."""

    name = "chatglm3"
    required_tokens = ("<|system|>", "<|assistant|>", "sop")

    TOOLS = (
        "Answer the following questions as best as you can. You have access to the following tools:"
    )
    """The sentence before the tools in the model's training data."""

    def _with_tools(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool]
    ) -> list[ChatMessage]:
        system = [m.content for m in takewhile(lambda m: m.role == "system", messages)]
        signatures = _indented([tool.signature() for tool in tools])
        offer = ChatMessage("system", "\n".join((*system, self.TOOLS, signatures)))
        return [offer, *messages[len(system) :]]

    def _arguments(self, call: ToolCall) -> str:
        code = f"{FUNCTION}({call.arguments})"  # if the arguments are not JSON, as a model may err
        with suppress(ValueError):
            arguments = read_json(call.arguments.strip() or "{}")
            if isinstance(arguments, dict):
                code = write_python_call(arguments)
        return f"```python\n{code}\n```"

    def tool_parser(self, tools: Sequence[Tool]) -> ToolParser:
        return NamedPythonParser(tools)

    def _tool_grammar(
        self, tools: Sequence[Tool], *, parallel: bool, or_text: bool, or_json: str | None
    ) -> str:
        return python_call_grammar(tools, or_text=or_text, or_json=or_json)


class GLM4Format(_RoleFormat):
    """GLM-4: tools in a separate system message, calls as JSON.

    Messages without content are left out, as in upstream's template. Empty tool results are kept,
    because each call needs an answer.
    """

    name = "glm4"
    required_tokens: ClassVar[tuple[str, ...]] = ("<|system|>", "<|assistant|>", "<sop>")

    # Verbatim from upstream's template, including its spelling of the model's name.
    TOOLS = (
        "你是一个名为 GhatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
        "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具"
    )
    TOOL = "\n\n## {name}\n\n{signature}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"

    def _message(self, message: ChatMessage) -> Iterator[int]:
        if message.content or message.tool_calls or message.role == "tool":
            yield from super()._message(message)

    def _with_tools(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool]
    ) -> list[ChatMessage]:
        offers = (
            self.TOOL.format(name=tool.name, signature=_indented(tool.signature()))
            for tool in tools
        )
        return [ChatMessage("system", self.TOOLS + "".join(offers)), *messages]

    def _arguments(self, call: ToolCall) -> str:
        return call.arguments.strip() or "{}"

    def tool_parser(self, tools: Sequence[Tool]) -> ToolParser:
        return NamedJsonParser(tools)

    def _tool_grammar(
        self, tools: Sequence[Tool], *, parallel: bool, or_text: bool, or_json: str | None
    ) -> str:
        return json_call_grammar(tools, or_text=or_text, or_json=or_json)


def _indented(value: object) -> str:
    """JSON in the layout of the publisher's code."""
    return json.dumps(value, indent=4, ensure_ascii=False)
