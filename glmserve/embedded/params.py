"""How to generate: the fields of the API that change the text, for any prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Fields of a request, with the names, bounds and defaults of the API.

    None leaves a field to its default: that of the checkpoint's generation_config.json, else the
    API's. They are checked when they are used.
    """

    n: int | None = None
    """Choices for each prompt; default 1."""
    max_tokens: int | None = None
    """Longest text, in tokens; -1: what fits into the context. Default 16 for `generate`, and what
    fits for `chat`."""
    min_tokens: int | None = None
    temperature: float | None = None
    """0 to 2; default 1. 0 always takes the most likely token."""
    top_p: float | None = None
    top_k: int | None = None
    """0 or -1: no limit."""
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Mapping[int | str, float] | None = None
    """By token id."""
    seed: int | None = None
    """The same seed and request give the same text, whatever else runs."""
    stop: str | Sequence[str] | None = None
    """Strings that end the text."""
    stop_token_ids: Sequence[int] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    """Go on until `max_tokens`."""
    bad_words: Sequence[str] | None = None
    allowed_token_ids: Sequence[int] | None = None
    skip_special_tokens: bool | None = None
    logprobs: int | None = None
    """Report each token's log-probability, and so many most likely tokens, 0 to 20."""
    prompt_logprobs: int | None = None

    def as_fields(self, *, is_chat: bool) -> dict[str, Any]:
        """The fields of a request that this sets."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        if is_chat and "logprobs" in given:
            given |= {"top_logprobs": given["logprobs"], "logprobs": True}
        return given
