"""What hypothesis sends to a scheduler, and what must have become of it."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from glmserve.contract.step import RunnerLimits
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.scheduler import TokenUpdate
from support import flat_sampling
from support.fakes import expected_logprobs
from support.simulation import Arrival


@st.composite
def prompts(draw: st.DrawFn) -> list[int]:
    """Few different tokens and common beginnings, so that prefixes are shared often."""
    shared = draw(st.sampled_from([[], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8, 9], [3] * 13]))
    return shared + draw(st.lists(st.integers(0, 2), min_size=0 if shared else 1, max_size=14))


@st.composite
def sampling_params(draw: st.DrawFn) -> SamplingParams:
    """Greedy or not, with and without what looks at the tokens before; FakeRunner's are 32..121."""
    max_tokens = draw(st.integers(0, 12))
    return flat_sampling.sampling_params(
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
    tenant=st.sampled_from(["", "", "a", "b"]),
    abort_after=st.none() | st.integers(0, 15),
    continuations=st.sampled_from([1, 1, 1, 2, 4]),
    scored=st.sampled_from([False, False, True]),
    in_background=st.sampled_from([False, False, True]),
)


@st.composite
def runner_limits(draw: st.DrawFn) -> RunnerLimits:
    """From far too small to comfortable; every request of `arrivals` fits alone."""
    block_size = draw(st.sampled_from([1, 2, 4, 16]))
    steps_in_flight = draw(st.sampled_from([1, 1, 2, 4]))
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
        resolves_placeholders=steps_in_flight == 1 and draw(st.booleans()),
        steps_in_flight=steps_in_flight,
        max_drafts=draw(st.sampled_from([1, 5, 64])),
    )


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


def random_arrivals(rng: random.Random, number: int) -> list[Arrival]:
    """Requests of all kinds, for times when hypothesis would take too long."""
    return [
        Arrival(
            tick=0,
            prompt=[rng.randrange(3) for _ in range(rng.randrange(1, 16))],
            params=flat_sampling.sampling_params(
                max_tokens=rng.randrange(1, 20),
                temperature=rng.choice([0.0, 1.0]),
                seed=rng.randrange(100),
                presence_penalty=rng.choice([0.0, 0.5]),
                stop_token_ids=rng.choice([frozenset(), frozenset(range(32, 40))]),
            ),
            constraint_length=rng.choice([None, None, 7]),
            continuations=rng.choice([1, 1, 3]),
            scored=rng.choice([False, False, True]),
        )
        for _ in range(number)
    ]
