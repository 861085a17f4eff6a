"""Demand many times the cache: running requests continue, and little is computed twice."""

from __future__ import annotations

import random

import pytest

from glmserve.config import SchedulerConfig
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import RunnerLimits, StepOutput
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler

STOP, GO_ON = 7, 8


class Load:
    """Requests that all arrive at once and stop after lengths that the scheduler cannot know."""

    def __init__(self, num_requests: int, num_blocks: int, *, prefix_cache: bool = True) -> None:
        rng = random.Random(0)
        limits = RunnerLimits(
            num_blocks=num_blocks,
            block_size=32,
            max_sequences=64,
            max_step_tokens=512,
            max_context=4096,
        )
        config = SchedulerConfig(prefix_cache=prefix_cache)
        self.scheduler = Scheduler(config, limits, hash_key=b"key")
        params = SamplingParams(
            max_tokens=2000, sampling=Sampling(temperature=1.0), stop_token_ids=frozenset([STOP])
        )
        self.requests: list[Request] = []
        self.lengths: list[int] = []
        for number in range(num_requests):
            prompt = [rng.randrange(1000) for _ in range(rng.randint(200, 1500))]
            self.requests.append(Request(number, prompt, params))
            self.lengths.append(min(1900, int(250 * rng.lognormvariate(0, 1)) + 5))
            self.scheduler.add(self.requests[-1])
        self.num_computed = 0

    @property
    def num_needed(self) -> int:
        """Tokens that would be computed with a cache for all: the last one of each is not."""
        return sum(len(r.prompt_ids) for r in self.requests) + sum(self.lengths) - len(self.lengths)

    def step(self) -> None:
        step = self.scheduler.schedule()
        assert step is not None
        sampled = []
        for sequence in step.sequences:
            self.num_computed += len(sequence.token_ids)
            if sequence.sampling is not None:
                request = self.requests[sequence.request_id]
                ends = request.num_output_tokens + 1 == self.lengths[request.id]
                sampled.append(STOP if ends else GO_ON)
        self.scheduler.update(StepOutput(step.step_id, sampled))


@pytest.mark.parametrize(
    ("num_blocks", "prefix_cache", "most"),
    [(256, True, 0.05), (256, False, 0.15), (1024, True, 0.01), (1024, False, 0.03)],
)
def test_hardly_anything_is_computed_twice(
    num_blocks: int, prefix_cache: bool, most: float
) -> None:
    """80 requests of 1,200 tokens on average, in a cache for 6, or for 25, of them."""
    load = Load(80, num_blocks, prefix_cache=prefix_cache)
    while load.scheduler.has_work:
        load.step()
    assert [r.num_output_tokens for r in load.requests] == load.lengths
    assert load.num_computed <= (1 + most) * load.num_needed


def test_the_oldest_never_yields_and_goes_on_in_every_step() -> None:
    load = Load(120, 130)
    for request in load.requests:
        preemptions = request.num_preemptions
        while not request.status.is_finished:
            before = request.num_computed_tokens
            load.step()
            assert request.num_preemptions == preemptions
            assert request.status.is_finished or request.num_computed_tokens > before
    assert load.scheduler.stats.preemptions > 10
