"""Takes tokens of one stream, as a consumer of an answer with one choice does."""

from __future__ import annotations

from glmserve.engine import AnswerTokens, NewTokens, TokenStream


async def next_tokens(stream: TokenStream) -> NewTokens:
    """Wait for tokens of the stream; empty at its end.

    Raises:
        GlmserveError: the request failed.
    """
    _, new = await AnswerTokens([stream]).next()
    return new
