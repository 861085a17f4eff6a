"""Prompts that come as text or as token ids, alone or several at once."""

from __future__ import annotations

from typing import Annotated, Any

from glmserve.api.protocol.base import FAIL_FAST
from glmserve.api.protocol.sampling import TokenId

TokenIds = Annotated[list[TokenId], FAIL_FAST]

MAX_PROMPTS = 2048  # OpenAI's


def check_prompt_kind(value: Any) -> Any:
    """Check the kind of a prompt; a union of four types would report every error four times.

    Raises:
        ValueError: the value is of none of the four kinds.
    """
    if isinstance(value, list) and not value:
        raise ValueError("must not be empty")
    kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
    if not isinstance(value, str | list) or kinds not in ({str}, {int}, {list}):
        raise ValueError(
            "must be a string, a list of token ids, a list of strings, or a list of lists of "
            "token ids"
        )
    if isinstance(value, list) and kinds != {int} and len(value) > MAX_PROMPTS:
        raise ValueError(f"at most {MAX_PROMPTS} prompts in one request")
    return value


def prompt_list(prompt: str | list[int] | list[str] | list[list[int]]) -> Any:
    """One entry per prompt: a list of strings, or one of lists of ids."""
    return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt
