"""Chat formats of later models and of fine-tunes, over the tokens that GLM-4 or the checkpoint has:
GLM-Edge, CodeGeeX4 and ChatML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from glmserve.text.chat_format import ChatMessage
from glmserve.text.response_filter import FilterChain, ResponseFilter, StripLeading
from glmserve.text.role_formats import GLM4Format
from glmserve.text.tagged_tools import TaggedTools
from glmserve.text.tools import Tool
from glmserve.text.tools.conversation import with_instructions, without_tools


class _TaggedTurns(TaggedTools, GLM4Format):
    """GLM-4's turns of models that were not trained to call tools in GLM-4's way."""

    calls_anywhere: ClassVar[bool] = True

    def _message(self, message: ChatMessage) -> Iterator[int]:
        plain = without_tools(message)
        yield from self._turn(plain.role, plain.content)

    def _with_tools(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool]
    ) -> list[ChatMessage]:
        return with_instructions(messages, tools)


class GLMEdgeFormat(_TaggedTurns):
    """GLM-Edge: GLM-4's turns without [gMASK]<sop> before them."""

    name = "glm-edge"
    required_tokens = ("<|system|>", "<|assistant|>")

    def _render_closed(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        prefix = self.tokenizer.encode_prompt("")
        return super()._render_closed(messages, tools)[len(prefix) :]


class OpenLine(GLM4Format):
    """A variant whose prompt ends with the answer's empty metadata line, unless there are tools,
    whose names the model writes into that line."""

    names_calls: ClassVar[bool] = True
    """Whether the line may name a tool."""

    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        ids = super()._render(messages, tools)
        return ids if tools and self.names_calls else [*ids, *self._no_metadata]

    def _render_open(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool], begun: str
    ) -> list[int]:
        ids = super()._render(messages, tools)
        return [*ids, *self._no_metadata, *self.tokenizer.encode(begun)]


class GLM4OpenLineFormat(OpenLine, GLM4Format):
    """GLM-4-9B-chat-hf."""


class GLMEdgeOpenLineFormat(OpenLine, GLMEdgeFormat):
    """GLM-Edge with an open line."""

    names_calls = False


class CodeGeeX4Format(OpenLine, _TaggedTurns):
    """CodeGeeX4: GLM-4's turns with an open line. Its publisher writes tools and calls by code that
    is not in the checkpoint's template, so they are explained in the system text."""

    name = "codegeex4"
    names_calls = False


class ChatMLFormat(TaggedTools):
    """ChatML of fine-tunes: `<|im_start|>role`, the content, `<|im_end|>`."""

    name = "chatml"
    required_tokens = ("<|im_start|>", "<|im_end|>")
    stop_tokens = ("<|im_end|>",)
    has_prefix: ClassVar[bool] = False
    """Whether the tokenizer's own prefix, such as [gMASK]<sop>, comes first."""

    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        start = self.tokenizer.special_ids["<|im_start|>"]
        return [
            *self._render_closed(messages, tools),
            start,
            *self.tokenizer.encode("assistant\n"),
        ]

    def _render_closed(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        ids = self.tokenizer.encode_prompt("") if self.has_prefix else []
        if tools:
            messages = with_instructions(messages, tools)
        # The line feed after a turn's end and the text up to the next mark are one text.
        text = ""
        for message in map(without_tools, messages):
            ids += self._marked(text, "<|im_start|>")
            ids += self._marked(f"{message.role}\n{message.content}", "<|im_end|>")
            text = "\n"
        return [*ids, *(self.tokenizer.encode(text) if text else ())]

    def _render_open(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool], begun: str
    ) -> list[int]:
        return [
            *self._render(messages, tools)[: -len(self.tokenizer.encode("assistant\n"))],
            *self.tokenizer.encode(f"assistant\n{begun}"),
        ]

    def _marked(self, text: str, mark: str) -> list[int]:
        encoded = self.tokenizer.encode(text) if text else []
        return [*encoded, self.tokenizer.special_ids[mark]]

    def response_filter(self) -> ResponseFilter:
        return FilterChain((StripLeading(),))

    def _rewrites(self) -> tuple[ResponseFilter, ...]:
        return ()


class ChatMLPrefixFormat(ChatMLFormat):
    """ChatML behind the tokenizer's prefix."""

    has_prefix = True
