"""Chat formats of GLM-4-0414 and of GLM-Z1, which reasons."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from glmserve.text.chat_format import ChatMessage
from glmserve.text.fine_tuned_formats import OpenLine
from glmserve.text.role_formats import GLM4Format
from glmserve.text.thoughts import CLOSE, OPEN
from glmserve.text.tools import Tool


class GLM40414Format(GLM4Format):
    """GLM-4-0414: GLM-4's form, with all system messages first and another sentence for tools.

    Messages without content are written, too.
    """

    name = "glm4-0414"

    TOOLS = "# 可用工具"
    SEPARATOR: ClassVar[str] = "\n\n"
    """Before each tool."""

    def _render_closed(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        system = [message for message in messages if message.role == "system"]
        others = [message for message in messages if message.role != "system"]
        return super()._render_closed([*system, *others], tools)

    def _message(self, message: ChatMessage) -> Iterator[int]:
        if message.content or message.tool_calls or message.role == "tool":
            yield from super()._message(message)
        else:
            yield from self._turn(message.role, "")

    def _with_tools(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool]
    ) -> list[ChatMessage]:
        offers = (self.SEPARATOR + self._offer(tool) for tool in tools)
        return [ChatMessage("system", self.TOOLS + "".join(offers)), *messages]

    def _offer(self, tool: Tool) -> str:
        signature = json.dumps(tool.signature(), indent=4, ensure_ascii=False)
        return self.TOOL.lstrip("\n").format(name=tool.name, signature=signature)


class GLM40414LineFormat(GLM40414Format):
    """The same with one line feed before each tool, as Jinja writes the published template."""

    SEPARATOR = "\n"


class GLM40414FirstLineFormat(GLM40414LineFormat):
    """The same with an empty line before the first tool."""

    TOOLS = GLM40414Format.TOOLS + "\n"


class GLM40414OpenLineFormat(OpenLine, GLM40414LineFormat):
    """GLM-4-0414 with an open line."""


class GLMZ1Format(GLM40414LineFormat):
    """GLM-Z1: the prompt ends with the tag that opens the model's thoughts.

    Earlier thoughts are left out: of a message, only what follows the last closing tag is written,
    without outer whitespace. If the model must not think, the thoughts are closed at once.
    """

    name = "glm-z1"
    reasons = True
    lead_in = r"\n{0,2}"

    TOOLS = (
        "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，"
        "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具"
    )

    _thinks = True

    def with_variables(self, variables: Mapping[str, Any]) -> GLMZ1Format:
        if variables.get("enable_thinking") is not False:
            return self
        bound = copy.copy(self)
        bound._thinks = False
        return bound

    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        thoughts = f"\n{OPEN}" if self._thinks else f"\n{OPEN}{CLOSE}"
        return [*super()._render(messages, tools), *self.tokenizer.encode(thoughts)]

    def _render_open(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool], begun: str
    ) -> list[int]:
        ids = super()._render(messages, tools)
        return [*ids, *self._no_metadata, *self.tokenizer.encode(begun)]

    def _message(self, message: ChatMessage) -> Iterator[int]:
        if message.role != "system":
            visible = message.content.rpartition(CLOSE)[2].strip()
            message = replace(message, content=visible)
        yield from super()._message(message)


class GLMZ1ToolsFormat(GLMZ1Format):
    """GLM-Z1 with the sentence for tools that GLM-4-0414 has."""

    TOOLS = GLM40414FirstLineFormat.TOOLS
