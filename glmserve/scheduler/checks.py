"""What a runner can never do, said when a request comes."""

from __future__ import annotations

from glmserve.contract.step import RunnerLimits
from glmserve.errors import ContextLengthError, InvalidRequestError
from glmserve.request import Request


def check_fits(request: Request, limits: RunnerLimits, budget: int) -> None:
    """See that a request could be computed if it were alone.

    Args:
        budget: tokens of one step.

    Raises:
        InvalidRequestError: its prompt is empty.
        ContextLengthError: it is too long.
    """
    if not request.prompt_ids:
        raise InvalidRequestError("the prompt is empty; send at least one token", "prompt")
    longest = min(limits.max_context, limits.token_capacity)
    if not limits.chunked_prefill:
        longest = min(longest, budget)  # a preempted request is recomputed in one step
    if request.max_total_tokens > longest:
        raise ContextLengthError(
            f"this request needs {request.num_prompt_tokens} prompt tokens and up to "
            f"{request.params.max_tokens} new ones, but at most {longest} tokens fit; shorten "
            "the prompt or lower max_tokens",
            "max_tokens" if request.num_prompt_tokens < longest else "prompt",
        )


def lay_out(request: Request, limits: RunnerLimits) -> None:
    """Find out the layout of the prompt, if the model's prompts have one.

    Raises:
        InvalidRequestError: its marks are not where the model wants them, or the request asks for
            what such prompts do not have.
    """
    marks = limits.prompt_marks
    if marks is None:
        return
    request.layout = marks.layout(request.prompt_ids)
    if request.params.prompt_logprobs is not None:
        raise InvalidRequestError(
            "this model reads a prompt in both directions, so the prompt's tokens have no "
            "log-probabilities; leave out echo or logprobs",
            "logprobs",
        )
