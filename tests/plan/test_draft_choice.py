"""Drafts as many as pay: never slower than without, and faster where they fit."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from glmserve.config import SchedulerConfig
from glmserve.contract.step import StepOutput
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler
from glmserve.scheduler.draft_costs import DraftCosts, DraftSeconds
from glmserve.scheduler.drafter import AcceptanceRate
from support.fakes import LIMITS

LARGE = msgspec.structs.replace(
    LIMITS, max_drafts=64, num_blocks=100_000, max_context=8192, max_step_tokens=512
)
VOCABULARY = 50
OUTPUT = 600

Cost = Callable[[int], float]
"""Seconds of a step by its number of tokens."""


def waits_for_weights(rows: int) -> float:
    return 0.010 + 0.0003 * rows


def is_busy(rows: int) -> float:
    return 0.001 + 0.001 * rows


def has_a_jump(rows: int) -> float:
    """A second row costs as much as the next ten."""
    return 0.010 + (rows > 1) * 0.003 + 0.0003 * rows


def run(drafts: int | None, cost: Cost, batch: int, quoted: float) -> float:
    """Tokens per second of a batch whose texts follow their prompt with this probability."""
    rng = random.Random(3)
    texts = {}
    scheduler = Scheduler(SchedulerConfig(64, speculative_tokens=drafts), LARGE, hash_key=b"key")
    for number in range(batch):
        source = [rng.randrange(VOCABULARY) for _ in range(OUTPUT)]
        said = [token if rng.random() < quoted else rng.randrange(VOCABULARY) for token in source]
        texts[number] = said
        prompt = [*source, VOCABULARY + 1]
        scheduler.add(Request(number, prompt, SamplingParams(max_tokens=len(said))))
    seconds = tokens = 0.0
    while (step := scheduler.schedule()) is not None:
        sampled = []
        for sequence in step.sequences:
            first = sequence.start + len(sequence.token_ids) - len(sequence.drafts) - OUTPUT - 1
            count = len(sequence.sampling_inputs)
            sampled += (texts[sequence.request_id] + [0] * 100)[first : first + count]
        took = cost(sum(len(s.token_ids) for s in step.sequences)) * rng.uniform(0.95, 1.05)
        updates = scheduler.update(StepOutput(step.step_id, sampled), took)
        is_decoding = all(s.start > OUTPUT for s in step.sequences)
        seconds += took * is_decoding
        tokens += len(updates) * is_decoding
    return tokens / seconds


@pytest.mark.parametrize("cost", [waits_for_weights, is_busy, has_a_jump])
@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("quoted", [0.0, 0.5, 0.97])
def test_never_slower_and_as_fast_as_the_better_choice(
    cost: Cost, batch: int, quoted: float
) -> None:
    without, measured = run(0, cost, batch, quoted), run(None, cost, batch, quoted)
    assert measured >= 0.975 * without
    assert measured >= 0.9 * run(4, cost, batch, quoted)


def test_a_text_that_quotes_is_faster() -> None:
    assert run(None, waits_for_weights, 1, 0.97) > 2.5 * run(0, waits_for_weights, 1, 0.97)


@pytest.mark.parametrize("late", [False, True])
def test_none_where_a_device_computes_while_the_next_step_is_launched(late: bool) -> None:
    """Then nothing prevents that a step is planned ahead."""
    limits = msgspec.structs.replace(LARGE, resolves_placeholders=True, waits_for_steps=late)
    scheduler = Scheduler(SchedulerConfig(speculative_tokens=None), limits, hash_key=b"key")
    scheduler.add(Request(0, [1, 2, 3] * 4, SamplingParams(max_tokens=9)))
    assert scheduler.schedule() is not None
    assert (scheduler.schedule() is None) == late


class TestDraftCosts:
    """What is learnt from the times of steps."""

    def test_costs_lie_on_lines_between_medians(self) -> None:
        costs = DraftCosts()
        costs.record(4, 0, 1.0)
        for seconds in (1.1, 1.2, 9.0):
            costs.record(4, 1, seconds)
        costs.record(4, 5, 1.6)
        seconds = costs.draft_seconds(4)
        assert [round(seconds.of(n), 3) for n in (0, 1, 3, 5, 10)] == [0, 0.2, 0.4, 0.6, 1.2]

    def test_other_batches_count_only_if_similar(self) -> None:
        costs = DraftCosts()
        costs.record(8, 0, 1.0)
        costs.record(8, 2, 1.5)
        assert costs.decode_seconds(10) == 1.0
        assert costs.decode_seconds(11) is None
        assert not costs.draft_seconds(1).is_known

    def test_a_step_without_drafts_is_wanted_now_and_then(self) -> None:
        costs = DraftCosts()
        costs.record(1, 0, 1.0)
        for _ in range(64):
            assert not costs.needs_plain_step
            costs.record(1, 3, 1.1)
        assert costs.needs_plain_step

    def test_nothing_known_costs_nothing(self) -> None:
        assert DraftSeconds([]).of(5) == 0.0


def test_a_rate_follows_what_was_checked() -> None:
    """Of three drafts with one correct, two were checked."""
    rate = AcceptanceRate()
    assert rate.mixed_with(0.25) == 0.25
    rate.record(3, 1)
    assert rate.mixed_with(0.5) == (1 + 2) / (2 + 4)
    for _ in range(300):
        rate.record(4, 4)
    assert rate.mixed_with(0.0) > 0.9
    for _ in range(300):
        rate.record(4, 0)
    assert rate.mixed_with(0.0) < 0.05
