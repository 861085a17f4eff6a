"""`prompt_logprobs`: log-probabilities of a prompt's tokens, in vLLM's shape."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import msgspec
from msgspec import Meta

from glmserve.contract.step import Logprobs
from glmserve.request import Request
from glmserve.text.tokenizer import Tokenizer

LOWEST = -9999.0
"""OpenAI's number for a token with probability 0: JSON has no infinity."""


class PromptLogprob(msgspec.Struct):
    """How likely a token was at its place in the prompt."""

    logprob: float
    rank: Annotated[
        int | None,
        Meta(description="1 is the most likely token; null: not among the reported tokens."),
    ]
    decoded_token: str | None


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""For each token of the prompt the token itself and the most likely ones, by their ids; null for
the first token, before which there is nothing."""


def prompt_logprobs_of(
    request: Request, tokenizer: Tokenizer | None, num_top: int, *, as_token_ids: bool
) -> PromptLogprobs:
    """The log-probabilities of the prompt of a request that asked for them.

    Args:
        tokenizer: None: tokens are not decoded.
        num_top: the most likely tokens to name at each place.
        as_token_ids: name tokens by their ids.
    """

    def name(token_id: int) -> str | None:
        if as_token_ids:
            return f"token_id:{token_id}"
        if tokenizer is None:
            return None
        return tokenizer.token_bytes(token_id, skip_special_tokens=False).decode(errors="replace")

    def place(token_id: int, scored: Logprobs) -> dict[str, PromptLogprob]:
        top = islice(zip(scored.top_ids, scored.top_logprobs, strict=True), num_top)
        found = {
            str(top_id): PromptLogprob(max(logprob, LOWEST), rank, name(top_id))
            for rank, (top_id, logprob) in enumerate(top, 1)
        }
        own = PromptLogprob(max(scored.logprob, LOWEST), None, name(token_id))
        found.setdefault(str(token_id), own)
        return found

    scored = zip(request.prompt_ids[1:], request.prompt_logprobs, strict=True)
    return [None, *(place(*pair) for pair in scored)]
