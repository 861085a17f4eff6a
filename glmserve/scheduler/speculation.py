"""Speculative decoding: drafts of the next tokens of requests that decode.

Drafts never change a text: the model samples a token in the place of each draft, and only drafts
equal to it are kept.
"""

from __future__ import annotations

from typing import Any

from glmserve.cache import BlockManager
from glmserve.request import Request
from glmserve.scheduler.draft_choice import DraftChoice, Drafter, EqualShares, WhatPays
from glmserve.scheduler.drafter import Sources
from glmserve.scheduler.earlier_answers import EarlierAnswers
from glmserve.scheduler.plan import Plan


class Speculation:
    """The drafters of all requests, and counters of their results.

    Args:
        max_per_request: drafts of one request in one step; None: as many as pay; 0 turns
            speculation off.
        max_per_step: drafts of all requests in one step.
        launches_ahead: whether steps are launched while the one before them runs. Drafts would
            prevent that even where none pays, so "as many as pay" means none.
        shares_answers: whether earlier answers are a source of drafts, see EarlierAnswers.
    """

    def __init__(
        self,
        max_per_request: int | None,
        max_per_step: int,
        *,
        launches_ahead: bool = False,
        shares_answers: bool = False,
    ) -> None:
        self.num_drafted = 0
        self.num_accepted = 0
        if max_per_request is None and launches_ahead:
            max_per_request = 0
        self.is_on = max_per_request != 0 and max_per_step > 0
        """Whether requests get drafts at all."""
        self._max_per_step = max_per_step
        self._answers = EarlierAnswers() if shares_answers and self.is_on else None
        self._drafters: dict[int, Drafter] = {}
        self._choice: DraftChoice[Any] = (
            WhatPays(max_per_step)
            if max_per_request is None
            else EqualShares(min(max_per_request, max_per_step))
        )

    def add_drafts(self, plan: Plan, blocks: BlockManager, reserve: int) -> None:
        """Append drafts to the plan's decodes.

        Args:
            reserve: blocks that stay free. So drafts never cause a preemption.
        """
        if not self.is_on:
            return
        places = [
            i
            for i, item in enumerate(plan.scheduled)
            if item.samples and item.num_tokens == 1 and _can_draft(item.request)
        ]
        room = min(plan.budget, self._max_per_step)
        requests = [plan.scheduled[place].request for place in places]
        offers = [self._offer(request, room) for request in requests]
        has_prompts = any(item.num_tokens > 1 for item in plan.scheduled)
        decodes = 0 if has_prompts else len(plan.scheduled)
        numbers = self._choice.numbers(offers, room, decodes)
        for place, request, (_, guesses), number in zip(
            places, requests, offers, numbers, strict=True
        ):
            drafts = guesses[: blocks.extend_for_drafts(request, number, reserve)]
            if drafts:
                plan.add_drafts(place, drafts, blocks.block_table(request))

    def _offer(self, request: Request, room: int) -> tuple[Drafter, list[int]]:
        """The request's drafter and at most `room` guesses, none beyond its max_tokens."""
        drafter = self._drafters.get(request.id)
        if drafter is None:
            answers = None if self._answers is None else self._answers.of(request)
            drafter = self._choice.drafter(Sources(request.prediction, answers))
            self._drafters[request.id] = drafter
        room = min(room, request.max_total_tokens - request.num_tokens - 1)
        return drafter, drafter.guess(request, room) if room > 0 else []

    def record_step(self, decodes: int, drafts: int, seconds: float) -> None:
        """Learn from the time of a step without prompts.

        Args:
            decodes: sequences with one token, drafts aside.
            seconds: from its beginning, or the end of the step before it, to its output.
        """
        self._choice.record_step(decodes, drafts, seconds)

    def record_result(self, request: Request, num_drafted: int, num_accepted: int) -> None:
        """Count a request's drafts and the correct ones among them."""
        self.num_drafted += num_drafted
        self.num_accepted += num_accepted
        request.num_drafted_tokens += num_drafted
        request.num_accepted_tokens += num_accepted
        if request.id in self._drafters:
            self._drafters[request.id].record_result(num_drafted, num_accepted)

    def forget(self, request: Request) -> None:
        """Drop the drafter of a request that has ended; its answer may be kept for others."""
        self._drafters.pop(request.id, None)
        if self._answers is not None:
            self._answers.add(request)


def _can_draft(request: Request) -> bool:
    """Whether a request may get drafts: it decodes, and has neither a structure nor a penalty.

    The token mask of a structure needs the token before. A penalty would send the whole history of
    the request with each draft.
    """
    is_free = request.constraint is None and not request.params.sampling.penalises
    return is_free and request.num_output_tokens > 0
