"""Checks of a new request: can this runner compute it at all?"""

from __future__ import annotations

from glmserve.contract.step import RunnerLimits
from glmserve.errors import ContextLengthError, InvalidRequestError
from glmserve.request import Request


def check_fits(request: Request, limits: RunnerLimits, budget: int) -> None:
    """Check that the runner could compute the request if it were the only one.

    Args:
        budget: maximum number of new tokens in one step.

    Raises:
        InvalidRequestError: the prompt is empty.
        ContextLengthError: prompt and max_tokens together exceed the context or the KV cache.
    """
    if not request.prompt_ids:
        raise InvalidRequestError("the prompt is empty; send at least one token", "prompt")
    longest = min(limits.max_context, limits.token_capacity)
    if not limits.chunked_prefill:
        longest = min(longest, budget)  # a preempted request is recomputed in one step
    if request.max_total_tokens > longest:
        num_prompt_tokens = request.num_prompt_tokens
        param = "max_tokens" if num_prompt_tokens < longest else "prompt"
        raise ContextLengthError(param, num_prompt_tokens, request.params.max_tokens, longest)


def set_layout(request: Request, limits: RunnerLimits) -> None:
    """Set the request's prompt layout, if the model's prompts have one.

    Raises:
        InvalidRequestError: the prompt's marks are misplaced, or the request wants
            log-probabilities of the prompt, which such prompts do not have.
    """
    marks = limits.prompt_marks
    if marks is None:
        return
    request.layout = marks.layout(request.prompt_ids)
    if request.params.prompt_logprobs is not None:
        raise InvalidRequestError.about(
            "logprobs",
            "this model reads a prompt in both directions, so the prompt's tokens have no "
            "log-probabilities; leave out echo or {param}",
        )
