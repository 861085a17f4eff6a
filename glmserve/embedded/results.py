"""What the Python API returns: OpenAI's objects as dataclasses.

A field has the name and the meaning that it has in the API; one that the API leaves out is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class PromptDetails:
    """Details of the prompt's tokens."""

    cached_tokens: int = 0
    """Found in the prefix cache."""


@dataclass(frozen=True)
class Usage:
    """Token counts; a prompt counts once, whatever n is."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails = PromptDetails()


@dataclass(frozen=True)
class TextLogprobs:
    """Natural logarithms of the probabilities of a text's tokens; lists have one item a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    """None for the first token of an echoed prompt."""
    top_logprobs: list[dict[str, float] | None]
    """The most likely tokens at this place, by their spelling."""
    text_offset: list[int]
    """Characters of the text before the token."""


@dataclass(frozen=True)
class TextChoice:
    """One of the n texts for a prompt; in a stream what is new in it."""

    index: int
    text: str
    finish_reason: FinishReason | None = None
    """None in a stream until the text is complete."""
    token_ids: list[int] | None = None
    """Ids of the text's tokens."""
    logprobs: TextLogprobs | None = None
    prompt_token_ids: list[int] | None = None
    """In a stream with the first text of a choice."""
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None
    """For each token of the prompt the most likely tokens and itself, by id; None for the first."""


@dataclass(frozen=True)
class PromptLogprob:
    """How likely a token was at its place in the prompt."""

    logprob: float
    rank: int | None = None
    """1: the most likely one."""
    decoded_token: str | None = None


@dataclass(frozen=True)
class Completion:
    """The n texts for one prompt; in a stream what is new in a text, or the counts at its end."""

    id: str
    created: int
    """Unix seconds."""
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None
    """In a stream only at its end."""

    @property
    def text(self) -> str:
        """The first text, or what is new in it."""
        return "".join(choice.text for choice in self.choices if choice.index == 0)

    @property
    def token_ids(self) -> list[int]:
        """Token ids of the first text."""
        ids = [choice.token_ids or [] for choice in self.choices if choice.index == 0]
        return ids[0] if ids else []

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the first text ended; None if it has not, in a stream."""
        return self.choices[0].finish_reason if self.choices else None


@dataclass(frozen=True)
class Function:
    """A called function."""

    arguments: str
    """The text of a JSON object; in a stream a part of it."""
    name: str | None = None
    """None in a stream after the first part."""


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool; in a stream a part of it, which belongs to the call of this index."""

    function: Function
    id: str | None = None
    type: Literal["function"] | None = None
    index: int | None = None


@dataclass(frozen=True)
class Message:
    """What the model has said, thought or called. May be sent back in a conversation."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """A token and the natural logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TokenLogprob] | None = None
    """The most likely tokens at this place."""


@dataclass(frozen=True)
class ChatLogprobs:
    """Log-probabilities of an answer's tokens."""

    content: list[TokenLogprob]


@dataclass(frozen=True)
class ChatChoice:
    """One of the n answers to a conversation."""

    index: int
    message: Message
    finish_reason: FinishReason
    logprobs: ChatLogprobs | None = None
    token_ids: list[int] | None = None


@dataclass(frozen=True)
class ChatCompletion:
    """The n answers to one conversation."""

    id: str
    created: int
    """Unix seconds."""
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_token_ids: list[int] | None = None

    @property
    def message(self) -> Message:
        """The first answer."""
        return self.choices[0].message

    @property
    def text(self) -> str:
        """What the first answer says; empty if it only calls tools."""
        return self.message.content or ""

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls of the first answer."""
        return self.message.tool_calls or []

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first answer ended."""
        return self.choices[0].finish_reason


@dataclass(frozen=True)
class ChatChunkChoice:
    """What is new in one of n answers."""

    index: int
    delta: Message
    finish_reason: FinishReason | None = None
    logprobs: ChatLogprobs | None = None
    token_ids: list[int] | None = None


@dataclass(frozen=True)
class ChatChunk:
    """What is new in one of the answers of a stream, or the counts at its end."""

    id: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    """Only at the end."""

    @property
    def text(self) -> str:
        """What is new in the text of the first answer."""
        return "".join(c.delta.content or "" for c in self.choices if c.index == 0)

    @property
    def thoughts(self) -> str:
        """What is new in the thoughts before the first answer."""
        return "".join(c.delta.reasoning_content or "" for c in self.choices if c.index == 0)


@dataclass(frozen=True)
class Embedding:
    """The vector of a text."""

    vector: list[float]
    """As many numbers as the model's hidden size, or as `dimensions`; its length is 1."""
    prompt_tokens: int
    """Tokens of the text."""


@dataclass(frozen=True)
class EmbeddingItem:
    """One vector of an answer."""

    embedding: list[float]


@dataclass(frozen=True)
class EmbeddingUsage:
    """Token counts of an answer."""

    prompt_tokens: int


@dataclass(frozen=True)
class EmbeddingList:
    """An answer of /v1/embeddings."""

    data: list[EmbeddingItem]
    usage: EmbeddingUsage


@dataclass(frozen=True)
class Score:
    """How likely a text was after a prompt."""

    logprob: float
    """Natural logarithm of the probability of the whole text: the sum of `token_logprobs`."""
    tokens: list[str]
    token_logprobs: list[float]
    is_greedy: bool
    """Whether each token was the most likely one, so that temperature 0 would have written it."""
