"""Token counts as OpenAI reports them."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class PromptTokensDetails(msgspec.Struct):
    """Where the prompt's tokens came from."""

    cached_tokens: int
    """Found in the prefix cache."""


class CompletionTokensDetails(msgspec.Struct):
    """What became of a prediction."""

    accepted_prediction_tokens: int
    """Guessed ahead, and right."""
    rejected_prediction_tokens: int
    """Guessed ahead, and wrong."""


class Usage(msgspec.Struct):
    """Token counts. Each prompt counts once, whatever n is; completions count in full."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET
    """Only of a request with a prediction."""
