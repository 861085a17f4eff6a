"""Formats of plain text without role tokens: ChatGLM-6B, ChatGLM2 and CodeGeeX2.

These models were not trained to call tools. The system text explains the tools, and calls and
results are written between tags (`tools/tagged.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile
from typing import ClassVar

from glmserve.text.chat_format import ChatMessage
from glmserve.text.response_filter import (
    FilterChain,
    FullWidthPunctuation,
    ReplaceTrainingDate,
    ResponseFilter,
)
from glmserve.text.tagged_tools import TaggedTools
from glmserve.text.tools import Tool, tagged
from glmserve.text.tools.conversation import without_tools


class PlainFormat(TaggedTools):
    """Turns tools, calls and results into text, so that subclasses only handle text."""

    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        return self.tokenizer.encode_prompt(self._text(*_as_texts(messages, tools)))

    def _render_closed(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        return self.tokenizer.encode_prompt(self._closed_text(*_as_texts(messages, tools)))

    @abstractmethod
    def _text(self, system: list[str], messages: Sequence[ChatMessage]) -> str:
        """The prompt text.

        Args:
            system: contents of the system messages at the beginning.
            messages: all later messages, without tool calls.
        """

    @abstractmethod
    def _closed_text(self, system: list[str], messages: Sequence[ChatMessage]) -> str:
        """The same without the beginning of an answer."""


def _as_texts(
    messages: Sequence[ChatMessage], tools: Sequence[Tool]
) -> tuple[list[str], list[ChatMessage]]:
    """The system texts, which explain the tools, and the other messages as texts."""
    system = [m.content for m in takewhile(lambda m: m.role == "system", messages)]
    rest = [
        without_tools(message) if message.tool_calls or message.role == "tool" else message
        for message in messages[len(system) :]
    ]
    if tools:
        system.append(tagged.instructions(tools))
    return system, rest


class _RoundsFormat(PlainFormat):
    """Plain text in numbered rounds of question and answer; there are no roles.

    The system prompt precedes the first round. Later system messages and tool results count as the
    user's messages, and so does the system prompt if there is no other message. Consecutive
    messages of one side are joined. If an assistant's message comes first, its question is empty;
    so is the last question if an assistant's message comes last.
    """

    separator: ClassVar[str]
    """Ends a question, an answer and the system prompt."""

    def _text(self, system: list[str], messages: Sequence[ChatMessage]) -> str:
        if not messages and system:
            return self._rounds([], "\n\n".join(system))
        rounds, query = _split_rounds(messages)
        return "".join(part + self.separator for part in system) + self._rounds(rounds, query)

    def _closed_text(self, system: list[str], messages: Sequence[ChatMessage]) -> str:
        """An open round ends with its question. Behind an answer, there is no other round."""
        text = self._text(system, messages)
        if messages and messages[-1].role == "assistant":
            return text[: text.rindex("[Round ")]
        return text.removesuffix("答：")

    def _render_open(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool], begun: str
    ) -> list[int]:
        """The assistant's messages before the last one belong to the answer that is continued."""
        earlier = list(takewhile(lambda m: m.role == "assistant", reversed(messages)))
        before = messages[: len(messages) - len(earlier)]
        texts = [without_tools(message).content for message in reversed(earlier)]
        return super()._render_open(before, tools, "\n\n".join((*texts, begun)))

    @abstractmethod
    def _rounds(self, rounds: list[tuple[str, str]], query: str) -> str:
        """The text of past rounds (question, answer) and of the open question."""


def _split_rounds(messages: Iterable[ChatMessage]) -> tuple[list[tuple[str, str]], str]:
    turns = [
        (is_answer, "\n\n".join(message.content for message in group))
        for is_answer, group in groupby(messages, lambda message: message.role == "assistant")
    ]
    opening = [""] if turns and turns[0][0] else []
    closing = [""] if not turns or turns[-1][0] else []
    contents = opening + [content for _, content in turns] + closing
    return list(zip(contents[:-1:2], contents[1::2], strict=True)), contents[-1]


class ChatGLMFormat(_RoundsFormat):
    """ChatGLM-6B: rounds are numbered from 0. A single question has no number."""

    name = "chatglm"
    separator = "\n"

    def _rounds(self, rounds: list[tuple[str, str]], query: str) -> str:
        if not rounds:
            return query
        past = "".join(
            f"[Round {number}]\n问：{question}\n答：{answer}\n"
            for number, (question, answer) in enumerate(rounds)
        )
        return f"{past}[Round {len(rounds)}]\n问：{query}\n答："

    def _rewrites(self) -> tuple[ResponseFilter, ...]:
        return (ReplaceTrainingDate(), FullWidthPunctuation())


class ChatGLM2Format(_RoundsFormat):
    """ChatGLM2-6B: rounds are numbered from 1, parts are separated by an empty line."""

    name = "chatglm2"
    separator = "\n\n"

    def _rounds(self, rounds: list[tuple[str, str]], query: str) -> str:
        past = "".join(
            f"[Round {number}]\n\n问：{question}\n\n答：{answer}\n\n"
            for number, (question, answer) in enumerate(rounds, 1)
        )
        return f"{past}[Round {len(rounds) + 1}]\n\n问：{query}\n\n答："


class CodeGeeX2Format(PlainFormat):
    """CodeGeeX2: continues code and has no chat format.

    The prompt is the contents of all messages, a line each, whatever their roles. So a system
    message "# language: Python" followed by a comment gives the documented prompt. The response is
    not filtered, because leading whitespace is indentation.
    """

    name = "codegeex2"
    lead_in = ""

    def _render_open(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool], begun: str
    ) -> list[int]:
        """The prompt ends with the code, as every prompt of this model does."""
        return self._render([*messages, ChatMessage("assistant", begun)], tools)

    def _text(self, system: list[str], messages: Sequence[ChatMessage]) -> str:
        *before, last = (*system, *(message.content for message in messages))
        lines = (text if text.endswith("\n") else text + "\n" for text in before)
        return "".join(lines) + last

    def _closed_text(self, system: list[str], messages: Sequence[ChatMessage]) -> str:
        return self._text(system, messages)  # nothing stands before an answer

    def response_filter(self) -> ResponseFilter:
        return FilterChain()

    def _rewrites(self) -> tuple[ResponseFilter, ...]:
        return ()
