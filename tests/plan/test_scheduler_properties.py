"""Whatever arrives, in whatever cache: nothing leaks, nothing is shared while written, all end."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import expected_logprobs, expected_output
from glmserve.config import SchedulerConfig
from glmserve.prompt_layout import PromptMarks
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.scheduler import Scheduler, TokenUpdate
from glmserve.scheduler.speculation import Drafter
from glmserve.step import RunnerLimits
from simulation import Arrival, Simulation, oracle, output_alone, output_of

GREEDY = SamplingParams(max_tokens=0, temperature=0.0)


@st.composite
def prompts(draw: st.DrawFn) -> list[int]:
    """Few different tokens and common beginnings, so that prefixes are shared often."""
    shared = draw(st.sampled_from([[], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8, 9], [3] * 13]))
    return shared + draw(st.lists(st.integers(0, 2), min_size=0 if shared else 1, max_size=14))


@st.composite
def sampling_params(draw: st.DrawFn) -> SamplingParams:
    """Greedy or not, with and without what looks at the tokens before; FakeRunner's are 32..121."""
    max_tokens = draw(st.integers(0, 12))
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=draw(st.sampled_from([0, 0, 2, 5])),
        temperature=draw(st.sampled_from([0.0, 0.0, 1.0])),
        seed=draw(st.integers(0, 3)),
        presence_penalty=draw(st.sampled_from([0.0, 0.0, 0.5])),
        stop_token_ids=draw(st.sampled_from([frozenset(), frozenset(range(32, 47))])),
        top_logprobs=draw(st.sampled_from([None, None, 2])),
        pool=not max_tokens,
    )


arrivals = st.builds(
    Arrival,
    tick=st.integers(0, 30),
    prompt=prompts(),
    params=sampling_params(),
    constraint_length=st.sampled_from([None, None, 1, 4, 20]),
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
        resolves_pending=draw(st.booleans()),
        max_drafts=draw(st.sampled_from([1, 5, 64])),
    )


def simulate(limits: RunnerLimits, config: SchedulerConfig, plan: list[Arrival]) -> Scheduler:
    """Run all arrivals to their end; each request says what it would say alone."""
    simulation = Simulation(limits, config, plan)
    simulation.run()
    for request, arrival in simulation.requests:
        expected, end = output_alone(arrival)
        output = output_of(request)
        check_updates(simulation.updates[request.id], output)
        if request.status is RequestStatus.FINISHED_ABORTED:
            assert output == expected[: len(output)]
        else:
            assert (output, request.status) == (expected, end)
            check_reports(request)
    stats = simulation.scheduler.stats
    assert (stats.running, stats.waiting, stats.used_blocks) == (0, 0, 0)
    return simulation.scheduler


def check_updates(updates: list[TokenUpdate], output: list[int]) -> None:
    """The engine is told of each token once, and of the end with the last."""
    assert [u.token_id for u in updates if u.token_id is not None] == output
    for update in updates:
        wanted = update.request.params.top_logprobs
        is_told = wanted is not None and update.token_id is not None
        expected = expected_logprobs(update.token_id, wanted) if is_told else None
        assert update.logprobs == expected
    is_over = bool(updates) and updates[-1].request.status in (
        RequestStatus.FINISHED_STOPPED,
        RequestStatus.FINISHED_LENGTH,
    )
    assert [u.is_last for u in updates] == [False] * (len(updates) - 1) + [is_over] * bool(updates)


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
    simulate(limits, config, plan)


@settings(max_examples=300)
@given(
    limits=runner_limits(),
    max_batch_size=st.integers(1, 8),
    speculative_tokens=st.integers(1, 6),
    error_every=st.sampled_from([1, 2, 3, 5, 50]),
    plan=st.lists(arrivals, min_size=1, max_size=12),
)
def test_drafts_change_nothing(
    limits: RunnerLimits,
    max_batch_size: int,
    speculative_tokens: int,
    error_every: int,
    plan: list[Arrival],
) -> None:
    config = SchedulerConfig(max_batch_size, 64, speculative_tokens=speculative_tokens)
    with mock.patch.object(Drafter, "draft", oracle(error_every)):
        stats = simulate(limits, config, plan).stats
    assert 0 <= stats.accepted <= stats.drafted


@settings(max_examples=50)
@given(
    budget=st.integers(1, 9),
    ahead=st.booleans(),
    plan=st.lists(arrivals, min_size=1, max_size=6),
)
def test_any_token_budget_gives_the_same_text(
    budget: int, ahead: bool, plan: list[Arrival]
) -> None:
    limits = RunnerLimits(
        num_blocks=30,
        block_size=4,
        max_sequences=8,
        max_step_tokens=budget,
        max_context=64,
        resolves_pending=ahead,
    )
    simulate(limits, SchedulerConfig(max_batch_size=8, max_step_tokens=64), plan)


MARKS = PromptMarks(gmask_id=200, mask_id=201, sop_id=202)


@st.composite
def marked_arrivals(draw: st.DrawFn) -> Arrival:
    """A context with its mask, then <sop>, then perhaps the beginning of an answer."""
    token = st.integers(0, 2)
    mask = draw(st.sampled_from([[200], [201], [201, 200]]))
    parts = [draw(st.lists(token, max_size=6)), mask, draw(st.lists(token, max_size=6))]
    answer = draw(st.lists(token, max_size=3))
    arrival = draw(arrivals)
    return replace(arrival, prompt=[*chain(*parts), 202, *answer], scored=False)


@settings(max_examples=100)
@given(limits=runner_limits(), plan=st.lists(marked_arrivals(), min_size=1, max_size=10))
def test_marked_prompts_are_computed_whole_and_every_step_knows_their_layout(
    limits: RunnerLimits, plan: list[Arrival]
) -> None:
    """FakeRunner compares each sequence's layout with its tokens."""
    limits = msgspec.structs.replace(
        limits, prompt_marks=MARKS, chunked_prefill=False, prefix_cache=False
    )
    simulate(limits, SchedulerConfig(max_batch_size=8, max_step_tokens=64), plan)


@settings(max_examples=50)
@given(
    prompts=st.lists(prompts(), min_size=4, max_size=8),
    max_tokens=st.integers(8, 12),
    ahead=st.booleans(),
)
def test_the_text_is_the_models_where_blocks_run_out(
    prompts: list[list[int]], max_tokens: int, ahead: bool
) -> None:
    params = msgspec.structs.replace(GREEDY, max_tokens=max_tokens)
    plan = [Arrival(0, prompt, params) for prompt in prompts]
    limits = RunnerLimits(
        num_blocks=10,
        block_size=4,
        max_sequences=8,
        max_step_tokens=64,
        max_context=40,
        resolves_pending=ahead,
    )
    simulate(limits, SchedulerConfig(), plan)
    for arrival in plan:
        assert output_alone(arrival)[0] == expected_output(arrival.prompt, max_tokens)
