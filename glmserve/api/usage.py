"""Token counts as OpenAI reports them."""

from __future__ import annotations

import msgspec


class PromptTokensDetails(msgspec.Struct):
    """Where the prompt's tokens came from."""

    cached_tokens: int
    """Found in the prefix cache."""


class Usage(msgspec.Struct):
    """Token counts. Each prompt counts once, whatever n is; completions count in full."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
