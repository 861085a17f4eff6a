"""Bounds of a request as a whole; each field has bounds of its own."""

from __future__ import annotations

from collections.abc import Sequence

from glmserve.errors import InvalidRequestError, TextLengthError

_CHARACTERS_PER_TOKEN = 32
"""More than any text has on average; single tokens may have more."""
_MOST_TOKENIZED = 2**20
"""Characters; the interpreter is locked for some 50 ms when their ids are listed."""
_MOST_SCORES = 3 * 2**20
"""Log-probabilities in one answer: a context of 128k tokens with the 20 most likely of each. They
take some 100 bytes each, and more while the answer is written."""


def check_characters(num_characters: int, max_context: int, param: str) -> None:
    """Refuse text that cannot fit before it is tokenised, which would take long.

    Raises:
        TextLengthError: it is longer than any text of so many tokens.
    """
    most = _CHARACTERS_PER_TOKEN * max_context
    if num_characters > most:
        raise TextLengthError(param, num_characters, most, max_context, param)


def check_tokenizable(num_characters: int, max_context: int, param: str) -> None:
    """Refuse text that takes too long to tokenise where it is only counted, not answered.

    Raises:
        InvalidRequestError: it would hold up others.
    """
    most = max(_MOST_TOKENIZED, _CHARACTERS_PER_TOKEN * max_context)
    if num_characters > most:
        raise InvalidRequestError(
            f"{param} has {num_characters} characters; at most {most} in one request", param
        )


def check_scores(
    prompts: Sequence[Sequence[int]],
    num_choices: int,
    max_tokens: int,
    top_logprobs: int | None,
    prompt_logprobs: int | None,
) -> None:
    """Refuse more log-probabilities than one answer can hold.

    Raises:
        InvalidRequestError: says how many it would be, and of what.
    """
    num_scores = 0
    if top_logprobs is not None:
        num_scores += len(prompts) * num_choices * max_tokens * (top_logprobs + 1)
    if prompt_logprobs is not None:
        num_scores += sum(map(len, prompts)) * (prompt_logprobs + 1)
    if num_scores > _MOST_SCORES:
        raise InvalidRequestError(
            f"tokens times choices times log-probabilities of each are {num_scores}; at most "
            f"{_MOST_SCORES} in one answer; lower max_tokens, n or the number of log-probabilities",
            "logprobs",
        )
