"""Whatever arrives, in whatever cache: nothing leaks, nothing is shared while written, all end."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeRunner, expected_logprobs, expected_output
from glmserve.config import SchedulerConfig
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.scheduler import Scheduler
from glmserve.step import RunnerLimits, StepInput, unpack_int32

STEP_LIMIT = 5000


@dataclass
class Arrival:
    step: int
    prompt: list[int]
    max_tokens: int
    priority: int
    abort_after: int | None
    continuations: int
    """Requests with this very prompt; the first may be aborted."""
    scored: bool
    """Whether the first wants the prompt's log-probabilities and sum."""


@st.composite
def prompts(draw: st.DrawFn) -> list[int]:
    """Few different tokens and common beginnings, so that prefixes are shared often."""
    shared = draw(st.sampled_from([[], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8, 9], [3] * 13]))
    return shared + draw(st.lists(st.integers(0, 2), min_size=0 if shared else 1, max_size=14))


arrivals = st.builds(
    Arrival,
    step=st.integers(0, 30),
    prompt=prompts(),
    max_tokens=st.integers(0, 12),
    priority=st.sampled_from([0, 0, 0, -1, 5]),
    abort_after=st.none() | st.integers(0, 15),
    continuations=st.sampled_from([1, 1, 1, 2, 4]),
    scored=st.sampled_from([False, False, True]),
)


@st.composite
def runner_limits(draw: st.DrawFn) -> RunnerLimits:
    """From far too small to comfortable; every request of `arrivals` fits alone."""
    block_size = draw(st.sampled_from([1, 2, 4, 16]))
    return RunnerLimits(
        num_blocks=-(-draw(st.integers(40, 160)) // block_size),
        block_size=block_size,
        max_sequences=draw(st.integers(1, 8)),
        max_step_tokens=draw(st.integers(40, 64)),
        max_context=40,
        batch_sizes=draw(st.sampled_from([None, (1, 2, 4)])),
        mixes_prefill_and_decode=draw(st.booleans()),
        chunked_prefill=draw(st.booleans()),
        prefix_cache=draw(st.booleans()),
    )


def written_slots(step: StepInput, block_size: int) -> list[int]:
    slots = []
    for sequence in step.sequences:
        table = unpack_int32(sequence.block_table)
        for i in range(sequence.start, sequence.start + len(sequence.token_ids)):
            slots.append(table[i // block_size] * block_size + i % block_size)
    return slots


def check_nothing_shared_while_written(step: StepInput, block_size: int) -> None:
    """A block that is written in this step is in no other sequence's table."""
    owners: dict[int, int] = {}
    for sequence in step.sequences:
        for block in unpack_int32(sequence.block_table):
            owners[block] = owners.get(block, 0) + 1
    for slot in written_slots(step, block_size):
        assert owners[slot // block_size] == 1


def simulate(limits: RunnerLimits, config: SchedulerConfig, plan: list[Arrival]) -> Scheduler:
    """Run all arrivals to their end and check every token and every step."""
    scheduler = Scheduler(config, limits, hash_key=b"key")
    runner = FakeRunner(limits)
    requests: list[tuple[Request, Arrival]] = []
    first_ids: set[int] = set()
    pending = sorted(plan, key=lambda a: a.step)
    time = 0
    while pending or scheduler.has_work:
        while pending and pending[0].step <= time:
            arrival = pending.pop(0)
            group = requests_of(arrival, len(requests))
            scheduler.add(*group)
            first_ids.add(group[0].id)
            requests += [(request, arrival) for request in group]
        for request, arrival in requests:
            if (
                request.id in first_ids
                and arrival.abort_after is not None
                and time >= arrival.step + arrival.abort_after
            ):
                scheduler.abort(request, RequestStatus.FINISHED_ABORTED)
        step = scheduler.schedule()
        if step is not None:
            check_nothing_shared_while_written(step, limits.block_size)
            scheduler.update(runner.execute(step))
        else:
            assert not scheduler.has_work, "work is left but nothing was scheduled"
        time += 1
        assert time < STEP_LIMIT, "somebody starves"
    for request, arrival in requests:
        output = list(request.token_ids[request.num_prompt_tokens :])
        expected = expected_output(arrival.prompt, arrival.max_tokens)
        if request.status is RequestStatus.FINISHED_ABORTED:
            assert output == expected[: len(output)]
        else:
            assert request.status is RequestStatus.FINISHED_LENGTH
            assert output == expected
            check_reports(request)
    return scheduler


def requests_of(arrival: Arrival, first_id: int) -> list[Request]:
    """The arrival's continuations of one prompt; the first tells about the prompt if asked to."""
    plain = SamplingParams(max_tokens=arrival.max_tokens, temperature=0.0)
    if not arrival.max_tokens:
        plain = msgspec.structs.replace(plain, pool=True)
    first = plain
    if arrival.scored:
        first = msgspec.structs.replace(plain, prompt_logprobs=1)
    return [
        Request(first_id + i, arrival.prompt, plain if i else first, arrival.priority)
        for i in range(arrival.continuations)
    ]


def check_reports(request: Request) -> None:
    """Each prompt token was read exactly once, whatever happened in between."""
    prompt, params = request.prompt_ids, request.params
    asked = params.prompt_logprobs is not None
    expected = [expected_logprobs(token, 1) for token in prompt[1:]] if asked else []
    assert request.prompt_logprobs == expected
    assert list(request.pooled) == ([sum(prompt)] if params.pool else [])


@settings(max_examples=300)
@given(
    limits=runner_limits(),
    max_batch_size=st.integers(1, 8),
    prefix_cache=st.booleans(),
    plan=st.lists(arrivals, min_size=1, max_size=12),
)
def test_every_request_gets_its_own_text_and_no_block_leaks(
    limits: RunnerLimits, max_batch_size: int, prefix_cache: bool, plan: list[Arrival]
) -> None:
    config = SchedulerConfig(
        max_batch_size=max_batch_size, max_step_tokens=64, prefix_cache=prefix_cache
    )
    scheduler = simulate(limits, config, plan)
    stats = scheduler.stats
    assert (stats.running, stats.waiting, stats.used_blocks) == (0, 0, 0)


@settings(max_examples=50)
@given(budget=st.integers(1, 9), plan=st.lists(arrivals, min_size=1, max_size=6))
def test_any_token_budget_gives_the_same_text(budget: int, plan: list[Arrival]) -> None:
    limits = RunnerLimits(
        num_blocks=30, block_size=4, max_sequences=8, max_step_tokens=budget, max_context=64
    )
    simulate(limits, SchedulerConfig(max_batch_size=8, max_step_tokens=64), plan)
