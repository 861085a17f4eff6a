"""Who is given drafts, and how many: requests whose drafts turn out right get more of them.

Drafts never change a text: a token that was chosen is what counts, and only drafts that are equal
to what was chosen in their place are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from glmserve.cache import BlockManager
from glmserve.request import Request
from glmserve.scheduler.plan import Plan
from glmserve.scheduler.prompt_lookup import PromptLookup

_LONGEST_PAUSE = 31
"""Steps without drafts after many wrong ones: then at most every 32nd step pays for a guess."""


class Drafter:
    """Drafts for one request.

    Args:
        most: drafts in one step.
        prediction: see Request.
    """

    def __init__(self, most: int, prediction: Sequence[int] = ()) -> None:
        self._lookup = PromptLookup(prediction)
        self._most = most
        self._length = most  # drafts that are tried at present
        self._pause = 0  # steps to pass before the next try
        self._failures = 0  # tries in a row of which nothing was right

    def draft(self, request: Request, room: int) -> list[int]:
        """Up to `room` guesses of the request's next tokens, often none. Once per step."""
        if self._pause:
            self._pause -= 1
            return []
        return self._lookup.continuation(request.token_ids, min(self._length, room))

    def learn(self, num_drafted: int, num_accepted: int) -> None:
        """Take note of how many drafts, from the first on, were right. If none, pause."""
        if num_accepted == 0:
            self._failures += 1
            self._pause = min(2**self._failures - 1, _LONGEST_PAUSE)
            self._length = max(1, self._length // 2)
            return
        self._failures = 0
        all_right = num_accepted == num_drafted
        self._length = min(2 * self._length, self._most) if all_right else num_accepted


class Speculation:
    """The drafters of running requests, and what came of their drafts.

    Args:
        most: drafts of one request in one step; 0 turns it off.
        most_together: drafts in one step.
    """

    def __init__(self, most: int, most_together: int) -> None:
        self.num_drafted = 0
        self.num_accepted = 0
        self._most = min(most, most_together)
        self._most_together = most_together
        self._drafters: dict[int, Drafter] = {}

    @property
    def is_on(self) -> bool:
        return self._most > 0

    def add_drafts(self, plan: Plan, blocks: BlockManager, reserve: int) -> None:
        """Let guesses follow decodes, as far as the budget reaches, in fair shares.

        Drafts take no block of the last `reserve` free ones: nobody is to yield for them.
        """
        if not self.is_on:
            return
        decodes = [
            i
            for i, item in enumerate(plan.in_flight)
            if item.samples and item.num_tokens == 1 and _can_draft(item.request)
        ]
        room = min(plan.budget, self._most_together)
        for others, index in zip(reversed(range(len(decodes))), decodes, strict=True):
            request = plan.in_flight[index].request
            drafts = self._draft(request, -(-room // (1 + others)))
            drafts = drafts[: blocks.extend_for_drafts(request, len(drafts), reserve)]
            if drafts:
                plan.add_drafts(index, drafts, blocks.block_table(request))
                room -= len(drafts)

    def _draft(self, request: Request, room: int) -> list[int]:
        """Guesses of the request's next tokens: at most `room`, and none that it could not keep."""
        room = min(room, request.max_total_tokens - request.num_tokens - 1)
        if room <= 0:
            return []
        drafter = self._drafters.get(request.id)
        if drafter is None:
            drafter = self._drafters[request.id] = Drafter(self._most, request.prediction)
        return drafter.draft(request, room)

    def learn(self, request: Request, num_drafted: int, num_accepted: int) -> None:
        """Take note of what came of a request's drafts."""
        self.num_drafted += num_drafted
        self.num_accepted += num_accepted
        request.num_drafted_tokens += num_drafted
        request.num_accepted_tokens += num_accepted
        if request.id in self._drafters:
            self._drafters[request.id].learn(num_drafted, num_accepted)

    def forget(self, request: Request) -> None:
        """The request has ended."""
        self._drafters.pop(request.id, None)


def _can_draft(request: Request) -> bool:
    """Only once it decodes. Not with a structure, whose mask needs the token before; nor with a
    penalty, whose whole history would travel once more with each draft."""
    is_free = request.constraint is None and not request.params.sampling.penalises
    return is_free and request.num_output_tokens > 0
