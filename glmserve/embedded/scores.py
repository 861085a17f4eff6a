"""Scores of texts: the request that a score needs, and what its answer says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.submission import encode_prompts
from glmserve.embedded.results import Completion, Score
from glmserve.errors import InvalidRequestError


async def score_body(
    server: ServerContext, prompt: str, text: str, given: Mapping[str, Any]
) -> tuple[dict[str, Any], int]:
    """A request of /v1/completions that scores prompt and text, and where the text's tokens begin.

    Raises:
        InvalidRequestError: they are no texts, or no token comes before the first one of the text.
    """
    if not isinstance(prompt, str) or not isinstance(text, str):
        raise InvalidRequestError("a score is of texts: send a prompt and a text")
    further = dict(given)
    marks = further.pop("add_special_tokens", True)
    before, whole = await encode_prompts(
        server, [prompt, prompt + text], "prompt", add_special_tokens=marks
    )
    begin = 0
    while begin < min(len(before), len(whole)) and before[begin] == whole[begin]:
        begin += 1
    if begin == 0 and whole:
        raise InvalidRequestError(
            "the first token of a text has no probability: send a prompt", "prompts"
        )
    return {"prompt": whole, "max_tokens": 0, "echo": True, "logprobs": 1, **further}, begin


def read_score(answer: Completion, begin: int) -> Score:
    """The score of the tokens from `begin` on."""
    found = answer.choices[0].logprobs
    assert found is not None  # they were asked for
    scores = [score for score in found.token_logprobs[begin:] if score is not None]
    best = [max((top or {}).values(), default=0.0) for top in found.top_logprobs[begin:]]
    return Score(
        logprob=sum(scores),
        tokens=found.tokens[begin:],
        token_logprobs=scores,
        is_greedy=all(score >= top for score, top in zip(scores, best, strict=True)),
    )
