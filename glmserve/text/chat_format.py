"""Chat messages to prompt ids, in the format each model was trained with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import ClassVar

from glmserve.errors import CheckpointError, InvalidRequestError
from glmserve.text.response_filter import (
    FilterChain,
    FullWidthPunctuation,
    ReplaceTrainingDate,
    ResponseFilter,
    StripLeading,
)
from glmserve.text.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class ChatMessage:
    """One message of a conversation; the API has mapped its own roles to these."""

    role: str
    content: str


class ChatFormat(ABC):
    """Renders conversations for one tokenizer and cleans up what comes back."""

    name: ClassVar[str]
    required_tokens: ClassVar[tuple[str, ...]] = ()
    stop_tokens: ClassVar[tuple[str, ...]] = ()
    """Special tokens that end a response, besides the tokenizer's end token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        for name in (*self.required_tokens, *self.stop_tokens):
            if name not in tokenizer.special_ids:
                raise CheckpointError(
                    f"the chat format {self.name} needs the token {name}, which this "
                    "checkpoint's tokenizer does not have; --chat-format can name another"
                )
        self.tokenizer = tokenizer
        self.stop_ids = frozenset(tokenizer.special_ids[name] for name in self.stop_tokens) | {
            tokenizer.eos_id
        }

    def render(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Prompt ids that ask for the next assistant message.

        Raises:
            InvalidRequestError: the conversation has no form in this format.
        """
        if not messages:
            raise InvalidRequestError("there must be at least one message", param="messages")
        for message in messages:
            if message.role not in ROLES:
                raise InvalidRequestError(
                    f"the role {message.role!r} is not one of {', '.join(ROLES)}", param="messages"
                )
        return self._render(messages)

    @abstractmethod
    def _render(self, messages: Sequence[ChatMessage]) -> list[int]:
        """As `render`, for messages that have been checked."""

    def response_filter(self) -> ResponseFilter:
        """A new filter for one response, to be applied before stop strings are looked for."""
        return FilterChain((StripLeading(), ReplaceTrainingDate()))


class _RoundsFormat(ChatFormat):
    """Plain text in numbered rounds of question and answer; there are no roles.

    A system prompt goes in front of the first round, as there is no other place for it. A later
    system message counts as the user's. Consecutive messages of one side become one, and an
    assistant who speaks first answers an empty question.
    """

    separator: ClassVar[str]
    """What ends a question, an answer and the system prompt."""

    def _render(self, messages: Sequence[ChatMessage]) -> list[int]:
        system = [m.content for m in takewhile(lambda m: m.role == "system", messages)]
        rounds, query = _split_rounds(messages[len(system) :])
        text = "".join(part + self.separator for part in system)
        return self.tokenizer.encode_prompt(text + self._text(rounds, query))

    @abstractmethod
    def _text(self, rounds: list[tuple[str, str]], query: str) -> str:
        """Past rounds of question and answer, and the open question, as text."""


def _split_rounds(messages: Sequence[ChatMessage]) -> tuple[list[tuple[str, str]], str]:
    turns = [
        (is_answer, "\n\n".join(message.content for message in group))
        for is_answer, group in groupby(messages, lambda message: message.role == "assistant")
    ]
    if not turns or turns[-1][0]:
        raise InvalidRequestError("the last message must come from the user", param="messages")
    opening = [""] if turns[0][0] else []
    contents = opening + [content for _, content in turns]
    return list(zip(contents[:-1:2], contents[1::2], strict=True)), contents[-1]


class ChatGLMFormat(_RoundsFormat):
    """ChatGLM-6B: rounds from 0, but a lone question is sent as it is."""

    name = "chatglm"
    separator = "\n"

    def _text(self, rounds: list[tuple[str, str]], query: str) -> str:
        if not rounds:
            return query
        past = "".join(
            f"[Round {number}]\n问：{question}\n答：{answer}\n"
            for number, (question, answer) in enumerate(rounds)
        )
        return f"{past}[Round {len(rounds)}]\n问：{query}\n答："

    def response_filter(self) -> ResponseFilter:
        return FilterChain((StripLeading(), ReplaceTrainingDate(), FullWidthPunctuation()))


class ChatGLM2Format(_RoundsFormat):
    """ChatGLM2-6B: rounds from 1, parts separated by an empty line."""

    name = "chatglm2"
    separator = "\n\n"

    def _text(self, rounds: list[tuple[str, str]], query: str) -> str:
        past = "".join(
            f"[Round {number}]\n\n问：{question}\n\n答：{answer}\n\n"
            for number, (question, answer) in enumerate(rounds, 1)
        )
        return f"{past}[Round {len(rounds) + 1}]\n\n问：{query}\n\n答："


class CodeGeeX2Format(ChatFormat):
    """CodeGeeX2: a model that continues code, without any chat form of its own.

    The prompt is the contents of all messages as one text, a line each, whatever their roles; so
    a system message "# language: Python" followed by a comment gives the documented prompt. The
    response is left alone: leading whitespace is indentation.
    """

    name = "codegeex2"

    def _render(self, messages: Sequence[ChatMessage]) -> list[int]:
        *before, last = (message.content for message in messages)
        lines = (text if text.endswith("\n") else text + "\n" for text in before)
        return self.tokenizer.encode_prompt("".join(lines) + last)

    def response_filter(self) -> ResponseFilter:
        return FilterChain()


class ChatGLM3Format(ChatFormat):
    """ChatGLM3-6B: `<|role|>`, a metadata line (empty without tools), the content.

    Both parts are encoded apart, so that each gets its own dummy blank, and no text can ever
    become a role token. The prompt ends with a bare `<|assistant|>`: the model writes its metadata
    line itself. Messages are rendered in the order given; an assistant message may be the last
    one, and the model then adds another, as upstream's chat template does.
    """

    name = "chatglm3"
    required_tokens = ("<|system|>", "<|assistant|>", "sop")
    stop_tokens = ("<|user|>", "<|observation|>")

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._no_metadata = tokenizer.encode("\n")

    def _render(self, messages: Sequence[ChatMessage]) -> list[int]:
        ids = self.tokenizer.encode_prompt("")
        for message in messages:
            ids.append(self.tokenizer.special_ids[f"<|{message.role}|>"])
            ids += self._no_metadata
            ids += self.tokenizer.encode(message.content)
        ids.append(self.tokenizer.special_ids["<|assistant|>"])
        return ids


class GLM4Format(ChatGLM3Format):
    """GLM-4: as ChatGLM3, but messages without content are left out, as upstream does."""

    name = "glm4"
    required_tokens = ("<|system|>", "<|assistant|>", "<sop>")

    def _render(self, messages: Sequence[ChatMessage]) -> list[int]:
        return super()._render([message for message in messages if message.content])
