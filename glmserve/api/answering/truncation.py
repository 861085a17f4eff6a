"""`truncate_prompt_tokens`: prompts cut to a number of tokens."""

from __future__ import annotations

from glmserve.api.answering.context import ServerContext
from glmserve.api.protocol.sampling import Truncation


def truncated(
    server: ServerContext, wanted: Truncation, prompt_ids: list[int], max_new_tokens: int
) -> list[int]:
    """The part of the prompt that the request keeps.

    Args:
        max_new_tokens: tokens of the answer, for which -1 leaves room.
    """
    most = wanted.truncate_prompt_tokens
    if most is None:
        return prompt_ids
    if most == -1:
        most = max(1, server.engine.info.limits.max_context - max_new_tokens)
    if len(prompt_ids) <= most:
        return prompt_ids
    return prompt_ids[:most] if wanted.truncation_side == "right" else prompt_ids[-most:]
