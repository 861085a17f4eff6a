"""Compiles grammars to llguidance's matchers, which may take long or fail."""

from __future__ import annotations

import msgspec
from llguidance import LLMatcher, LLTokenizer

from glmserve.errors import InvalidRequestError
from glmserve.text.structure.vocabulary import LIMITS

REFUSED = "the structure cannot be honoured: "
"""How the message about a grammar begins that llguidance refuses."""

_PREFIXES = ("failed to compile JSON schema: ", "failed to parse ")
_MAX_REASON = 300


class FirstTokens(msgspec.Struct, frozen=True):
    """Tokens that have another text at the beginning than later. Packed bits, as in TokenMasks."""

    with_space: bytes
    """Tokens that begin with a space which is no part of the text."""
    never_first: bytes
    """Tokens without any text at the beginning."""


def build_matcher(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """A matcher in the first state of a grammar.

    Raises:
        InvalidRequestError: llguidance refuses it; the message is llguidance's.
    """
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    if matcher.is_error():
        raise InvalidRequestError(f"{REFUSED}{_reason(matcher)}")
    return matcher


def first_mask(plain: LLMatcher, after_space: LLMatcher | None, opening: FirstTokens) -> bytes:
    """The mask of the first token, in llguidance's layout (with a bit for the end).

    Args:
        plain: matcher of the structure.
        after_space: matcher of a blank and the structure, or None if the tokenizer keeps blanks.

    Raises:
        InvalidRequestError: no token can come first, or computing the mask costs too much.
    """
    raw = _mask(plain)
    if after_space is None:
        return raw
    with_space = int.from_bytes(opening.with_space, "little")
    mask = int.from_bytes(raw, "little") & ~with_space
    mask |= int.from_bytes(_mask(after_space), "little") & with_space
    mask &= ~int.from_bytes(opening.never_first, "little")
    return mask.to_bytes(len(raw), "little")


def _mask(matcher: LLMatcher) -> bytes:
    mask = matcher.compute_bitmask()
    if matcher.is_error():
        raise InvalidRequestError(f"no text has this structure: {_reason(matcher)}")
    return mask


def _reason(matcher: LLMatcher) -> str:
    """llguidance's message without excerpts of glmserve's own rules."""
    reason = matcher.get_error()
    for prefix in _PREFIXES:
        reason = reason.rpartition(prefix)[2]
    if "limits." in reason:  # advice about LIMITS, which users cannot change
        return "it is too complex"
    return reason.strip().partition("\n")[0][:_MAX_REASON]
