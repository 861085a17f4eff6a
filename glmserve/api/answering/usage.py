"""Token counts as OpenAI reports them."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class PromptTokensDetails(msgspec.Struct):
    """Details of the prompt's tokens."""

    cached_tokens: int
    """Found in the prefix cache."""


class CompletionTokensDetails(msgspec.Struct):
    """How much of a prediction was right, and how much of the answer is thoughts."""

    accepted_prediction_tokens: int = 0
    """Drafted tokens that were right."""
    rejected_prediction_tokens: int = 0
    """Drafted tokens that were wrong."""
    reasoning_tokens: int | UnsetType = UNSET
    """Of models that reason."""


class Usage(msgspec.Struct):
    """Token counts. Each prompt counts once, whatever n is; completions count in full."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET
    """Only of a request with a prediction, and of models that reason."""
