"""Real models with drafts: the same tokens as without, whether the drafts are right or wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from glmserve.config import RunnerConfig, SchedulerConfig, report_nothing
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import INVALID_TOKEN_ID, Runner, StepOutput
from glmserve.devices.cpu import CpuDevice
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler, TokenUpdate
from glmserve.scheduler.drafter import AdaptiveDrafter
from glmserve.scheduler.prompt_lookup import PromptLookup
from support.golden import read_greedy
from support.tiny_models import BASE, random_weights, write_checkpoint

PROMPTS = [[5, 6, 7, 5, 6], [8], [*range(20), *range(20)], [11, 12, 13, 14] * 5]
GREEDY = SamplingParams(max_tokens=30)
RULES = [
    GREEDY,
    SamplingParams(max_tokens=30, seed=4, top_logprobs=2, sampling=Sampling(temperature=1.0)),
    SamplingParams(max_tokens=30, seed=5, sampling=Sampling(temperature=0.7, top_p=0.9, top_k=12)),
    SamplingParams(
        max_tokens=30, seed=6, sampling=Sampling(temperature=0.3, logit_bias={3: 1.0}, min_p=0.1)
    ),
]


def load(checkpoint: Path, *, deterministic: bool = False) -> Runner:
    config = RunnerConfig(
        checkpoint=str(checkpoint),
        dtype="float32",
        kv_cache_tokens=1024,
        threads=1,
        deterministic=deterministic,
    )
    return CpuDevice().create_runner(config, report_nothing)


def run(
    runner: Runner, prompts: list[list[int]], rules: list[SamplingParams], most: int
) -> tuple[list[list[TokenUpdate]], Scheduler]:
    """What is told of each request, all of them in one batch, with at most so many drafts."""
    config = SchedulerConfig(speculative_tokens=most)
    scheduler = Scheduler(config, runner.info.limits, hash_key=b"key")
    updates: list[list[TokenUpdate]] = [[] for _ in prompts]
    for i, (prompt, params) in enumerate(zip(prompts, rules, strict=True)):
        scheduler.add(Request(i, prompt, params))
    while (step := scheduler.schedule()) is not None:
        output = runner.execute(step)
        assert isinstance(output, StepOutput)
        for update in scheduler.update(output):
            updates[update.request.id].append(update)
    return updates, scheduler


def token_ids(updates: list[list[TokenUpdate]]) -> list[list[int | None]]:
    return [[u.token_id for u in own] for own in updates]


def erring(
    outputs: list[list[int | None]], error_every: int
) -> Callable[[AdaptiveDrafter, Request, int], list[int]]:
    """Drafts what was said without drafts, but every `error_every`-th guess is wrong."""

    def guess(_: AdaptiveDrafter, request: Request, room: int) -> list[int]:
        begin = request.num_output_tokens
        guesses = [t or 0 for t in outputs[request.id][begin : begin + room]]
        return [
            (t + 1) % 40 if (begin + i) % error_every == 0 else t for i, t in enumerate(guesses)
        ]

    return guess


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"), BASE, random_weights(BASE))


@pytest.mark.parametrize("error_every", [1, 2, 5, 1000])
def test_same_tokens(checkpoint: Path, error_every: int) -> None:
    runner = load(checkpoint)
    without = token_ids(run(runner, PROMPTS, RULES, 0)[0])
    with mock.patch.object(AdaptiveDrafter, "guess", erring(without, error_every)):
        updates, scheduler = run(runner, PROMPTS, RULES, 5)
    assert token_ids(updates) == without
    stats = scheduler.stats
    assert stats.drafted > 0
    assert (stats.accepted == 0) is (error_every == 1)
    assert (stats.accepted == stats.drafted) is (error_every == 1000)


@pytest.mark.parametrize("name", ["glm2_base", "glm4_base"])
def test_greedy_text_of_the_original(golden_models: Path, name: str) -> None:
    folder = golden_models / name
    prompts, want = read_greedy(folder)
    rules = [SamplingParams(max_tokens=len(want[0]))] * len(prompts)
    known: list[list[int | None]] = [[*tokens] for tokens in want]
    with mock.patch.object(AdaptiveDrafter, "guess", erring(known, 4)):
        updates, scheduler = run(load(folder), prompts, rules, 8)
    assert token_ids(updates) == want
    assert scheduler.stats.accepted > 0


def test_deterministic_numbers_are_the_same_bits(checkpoint: Path) -> None:
    runner = load(checkpoint, deterministic=True)
    rules = [
        SamplingParams(max_tokens=30, seed=i, top_logprobs=3, sampling=Sampling(temperature=1.0))
        for i in range(4)
    ]
    without, _ = run(runner, PROMPTS, rules, 0)
    with mock.patch.object(AdaptiveDrafter, "guess", erring(token_ids(without), 3)):
        drafted, scheduler = run(runner, PROMPTS, rules, 5)
    assert scheduler.stats.accepted > 0
    told = [[[(u.token_id, u.logprobs) for u in own] for own in r] for r in (without, drafted)]
    assert told[0] == told[1]


def test_a_wrong_guess_that_is_not_finite_harms_nobody(tmp_path: Path) -> None:
    weights = random_weights(BASE)
    weights["transformer.embedding.word_embeddings.weight"][40] = float("nan")
    runner = load(write_checkpoint(tmp_path, BASE, weights))
    bias = SamplingParams(
        max_tokens=30, sampling=Sampling(temperature=0.0, logit_bias={40: -100.0})
    )
    without = token_ids(run(runner, PROMPTS, [bias] * 4, 0)[0])
    assert INVALID_TOKEN_ID not in without[0]
    with mock.patch.object(PromptLookup, "continuation", lambda *_: [40]):
        updates, scheduler = run(runner, PROMPTS, [bias] * 4, 1)
    assert scheduler.stats.drafted > 0
    assert token_ids(updates) == without
