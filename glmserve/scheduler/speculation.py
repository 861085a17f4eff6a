"""Speculative decoding: which requests get drafts, and how many.

Requests with correct drafts get more of them. Drafts never change a text: the model samples a token
in the place of each draft, and only drafts equal to it are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from glmserve.cache import BlockManager
from glmserve.request import Request
from glmserve.scheduler.plan import Plan
from glmserve.scheduler.prompt_lookup import PromptLookup

_LONGEST_PAUSE = 31
"""Maximum number of steps without drafts after failures; every 32nd step then tries one."""


class Drafter:
    """Drafts for one request.

    Args:
        max_drafts: maximum number of drafts in one step.
        prediction: token ids that the output may resemble, see Request.
    """

    def __init__(self, max_drafts: int, prediction: Sequence[int] = ()) -> None:
        self._lookup = PromptLookup(prediction)
        self._max_drafts = max_drafts
        self._length = max_drafts  # drafts to try in the next step
        self._pause = 0  # steps to skip before the next try
        self._failures = 0  # consecutive tries without a correct draft

    def draft(self, request: Request, room: int) -> list[int]:
        """Up to `room` guesses of the request's next tokens, often none. Call once per step."""
        if self._pause:
            self._pause -= 1
            return []
        return self._lookup.continuation(request.token_ids, min(self._length, room))

    def record_result(self, num_drafted: int, num_accepted: int) -> None:
        """Adapt the number of drafts to the last result.

        If all were correct it doubles. If none was, it halves and a pause follows. Otherwise it is
        the number of correct drafts.
        """
        if num_accepted == 0:
            self._failures += 1
            self._pause = min(2**self._failures - 1, _LONGEST_PAUSE)
            self._length = max(1, self._length // 2)
            return
        self._failures = 0
        all_correct = num_accepted == num_drafted
        self._length = min(2 * self._length, self._max_drafts) if all_correct else num_accepted


class Speculation:
    """The drafters of all requests, and counters of their results.

    Args:
        max_per_request: drafts of one request in one step; 0 turns speculation off.
        max_per_step: drafts of all requests in one step.
    """

    def __init__(self, max_per_request: int, max_per_step: int) -> None:
        self.num_drafted = 0
        self.num_accepted = 0
        self._max_per_request = min(max_per_request, max_per_step)
        self._max_per_step = max_per_step
        self._drafters: dict[int, Drafter] = {}

    @property
    def is_on(self) -> bool:
        """Whether requests get drafts at all."""
        return self._max_per_request > 0

    def add_drafts(self, plan: Plan, blocks: BlockManager, reserve: int) -> None:
        """Append drafts to the plan's decodes, in equal shares of the remaining budget.

        Args:
            reserve: blocks that stay free. So drafts never cause a preemption.
        """
        if not self.is_on:
            return
        decodes = [
            i
            for i, item in enumerate(plan.scheduled)
            if item.samples and item.num_tokens == 1 and _can_draft(item.request)
        ]
        room = min(plan.budget, self._max_per_step)
        for others, index in zip(reversed(range(len(decodes))), decodes, strict=True):
            request = plan.scheduled[index].request
            drafts = self._draft(request, -(-room // (1 + others)))
            drafts = drafts[: blocks.extend_for_drafts(request, len(drafts), reserve)]
            if drafts:
                plan.add_drafts(index, drafts, blocks.block_table(request))
                room -= len(drafts)

    def _draft(self, request: Request, room: int) -> list[int]:
        """At most `room` drafts, and none beyond the request's max_tokens."""
        room = min(room, request.max_total_tokens - request.num_tokens - 1)
        if room <= 0:
            return []
        drafter = self._drafters.get(request.id)
        if drafter is None:
            drafter = self._drafters[request.id] = Drafter(
                self._max_per_request, request.prediction
            )
        return drafter.draft(request, room)

    def record_result(self, request: Request, num_drafted: int, num_accepted: int) -> None:
        """Count a request's drafts and the correct ones among them."""
        self.num_drafted += num_drafted
        self.num_accepted += num_accepted
        request.num_drafted_tokens += num_drafted
        request.num_accepted_tokens += num_accepted
        if request.id in self._drafters:
            self._drafters[request.id].record_result(num_drafted, num_accepted)

    def forget(self, request: Request) -> None:
        """Drop the drafter of a request that has ended."""
        self._drafters.pop(request.id, None)


def _can_draft(request: Request) -> bool:
    """Whether a request may get drafts: it decodes, and has neither a structure nor a penalty.

    The token mask of a structure needs the token before. A penalty would send the whole history of
    the request with each draft.
    """
    is_free = request.constraint is None and not request.params.sampling.penalises
    return is_free and request.num_output_tokens > 0
