"""The objects that text completions answer with, as OpenAI has published them.

Other fields are vLLM's. Unless they are asked for, or the server has no tokenizer, they are null
in a whole response and absent in a stream.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from glmserve.api.answering.usage import Usage
from glmserve.api.openai.prompt_logprobs import PromptLogprobs


class LegacyLogprobs(msgspec.Struct):
    """Log-probabilities of a text's tokens, one entry of each list per token."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    """Null for a text's very first token: nothing comes before it."""
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]

    def joined(self, more: LegacyLogprobs) -> LegacyLogprobs:
        """These tokens followed by others."""
        return LegacyLogprobs(
            self.text_offset + more.text_offset,
            self.token_logprobs + more.token_logprobs,
            self.tokens + more.tokens,
            self.top_logprobs + more.top_logprobs,
        )


class CompletionChoice(msgspec.Struct):
    """One of the texts, or in a stream what is new in it."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: str | None
    """stop or length; null in a stream until the text is complete."""
    token_ids: list[int] | UnsetType | None = UNSET
    prompt_token_ids: list[int] | UnsetType | None = UNSET
    """In a stream in the first event of a choice."""
    prompt_logprobs: PromptLogprobs | UnsetType | None = UNSET


class Completion(msgspec.Struct, kw_only=True):
    """The body of a whole response, or the data of one event of a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
    """In streams only with include_usage: null, and the counts in the last event."""
