"""Applies a step's output to its requests."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from itertools import islice, repeat

import msgspec

from glmserve.cache import BlockManager
from glmserve.contract.step import INVALID_TOKEN_ID, Logprobs, StepOutput
from glmserve.request import Request, RequestStatus
from glmserve.scheduler.crash_tracker import CrashTracker
from glmserve.scheduler.plan import Scheduled
from glmserve.scheduler.speculation import Speculation


class TokenUpdate(msgspec.Struct, frozen=True):
    """A token that a step added to a request."""

    request: Request
    token_id: int | None
    """INVALID_TOKEN_ID if the request failed because logits were not finite; None if it ended
    without a token because it asked only for its prompt (max_tokens 0)."""
    logprobs: Logprobs | None = None
    is_last: bool = False
    """Whether the request has ended."""


class OutputProcessor:
    """Adds tokens to requests, and ends those that are complete.

    Args:
        end: called with each request that ends, and its finished status.
        prompt_computed: called with a request when its whole prompt is in the KV cache.
    """

    def __init__(
        self,
        blocks: BlockManager,
        speculation: Speculation,
        crash_tracker: CrashTracker,
        end: Callable[[Request, RequestStatus], None],
        prompt_computed: Callable[[Request], None],
    ) -> None:
        self._blocks = blocks
        self._speculation = speculation
        self._crash_tracker = crash_tracker
        self._end = end
        self._prompt_computed = prompt_computed

    def apply(self, step: list[Scheduled], output: StepOutput) -> list[TokenUpdate]:
        """Record what a step computed. Rows of requests that ended meanwhile are ignored."""
        updates = []
        sampled = zip(output.token_ids, output.logprobs or repeat(None), strict=False)
        scores, pooled = iter(output.scores), iter(output.pooled)
        for item in step:
            request, num_tokens, drafts = item.request, item.num_tokens, item.drafts
            token = next(sampled) if item.samples else None
            after_drafts = list(islice(sampled, len(drafts))) if drafts else []
            score = next(scores) if item.scores else None
            sums = next(pooled) if item.pools else None
            if request.status is not RequestStatus.RUNNING:
                continue
            if (item.scores or item.pools) and not _are_numbers(score, sums):
                self._end(request, RequestStatus.FINISHED_ERROR)
                updates.append(TokenUpdate(request, INVALID_TOKEN_ID, is_last=True))
                continue
            if drafts and token is not None and token[0] == INVALID_TOKEN_ID:
                self._retry_without_drafts(request, num_tokens, drafts)
                continue
            if score is not None:
                request.prompt_logprobs += score
            if sums is not None:
                _add_floats(request.pooled, sums)
            request.num_computed_tokens += num_tokens
            self._blocks.cache_computed(request, num_tokens)
            if 0 <= request.num_computed_tokens - len(request.prompt_ids) < num_tokens:
                self._prompt_computed(request)
            if token is not None:
                request.num_pending_tokens -= 1
                updates.append(self._append_token(request, *token))
                if drafts:
                    updates += self._accept_drafts(request, drafts, after_drafts)
            elif request.is_prompt_computed and not request.params.max_tokens:
                self._end(request, RequestStatus.FINISHED_LENGTH)
                updates.append(TokenUpdate(request, None, is_last=True))
        return updates

    def _retry_without_drafts(
        self, request: Request, num_tokens: int, drafts: tuple[int, ...]
    ) -> None:
        """Let the next step compute this token again, without drafts.

        A draft with NaN in its K/V can spoil the positions before it, although attention masks it:
        a masked position has weight 0, and 0 * NaN is NaN.
        """
        request.num_pending_tokens -= 1
        request.num_scheduled_tokens -= num_tokens
        self._speculation.record_result(request, len(drafts), 0)
        self._blocks.trim(request)

    def _accept_drafts(
        self, request: Request, drafts: tuple[int, ...], tokens: list[tuple[int, Logprobs | None]]
    ) -> list[TokenUpdate]:
        """Append the tokens sampled after correct drafts, up to the first wrong draft.

        Args:
            tokens: the token sampled after each draft. The token sampled before the first draft is
                already the request's last one.
        """
        updates: list[TokenUpdate] = []
        for draft, token in zip(drafts, tokens, strict=True):
            if request.status is not RequestStatus.RUNNING or request.token_ids[-1] != draft:
                break
            request.num_computed_tokens += 1
            request.num_scheduled_tokens += 1
            self._blocks.cache_computed(request, 1)
            updates.append(self._append_token(request, *token))
        self._speculation.record_result(request, len(drafts), len(updates))
        if request.status is RequestStatus.RUNNING:
            self._blocks.trim(request)
        return updates

    def _append_token(
        self, request: Request, token_id: int, logprobs: Logprobs | None
    ) -> TokenUpdate:
        if token_id == INVALID_TOKEN_ID:
            status: RequestStatus | None = RequestStatus.FINISHED_ERROR
        else:
            status = request.append(token_id)
            if request.num_crashes:
                self._crash_tracker.clear(request)
        if status is None:
            return TokenUpdate(request, token_id, logprobs)
        self._end(request, status)
        return TokenUpdate(request, token_id, logprobs, is_last=True)


def _are_numbers(score: list[Logprobs] | None, sums: bytes | None) -> bool:
    """Whether a prompt's log-probabilities and summed hidden states hold no NaN or infinity."""
    if score is not None and any(math.isnan(item.logprob) for item in score):
        return False
    return sums is None or all(map(math.isfinite, memoryview(sums).cast("f")))


def _add_floats(total: array[float], addend: bytes) -> None:
    """Add packed float32 values to `total`, which is empty or has the same length."""
    values = memoryview(addend).cast("f")
    if not total:
        total.extend(values)
    else:
        for i, value in enumerate(values):
            total[i] += value
