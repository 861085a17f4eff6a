"""The sampler against a slow definition, and its distribution over many keys."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from glmserve.contract.sampling import Sampling
from glmserve.contract.step import INVALID_TOKEN_ID, SamplingInput
from glmserve.ops.attention.kv_store import ExactStore
from glmserve.ops.attention.sdpa import SdpaAttention
from glmserve.ops.base import AnyOps, Ops
from glmserve.ops.cpu.native_ops import NativeCpuOps
from glmserve.ops.cpu.torch_ops import TorchCpuOps
from glmserve.ops.sampling.draw import nucleus
from glmserve.ops.sampling.gumbel import draw, gumbel_noise
from glmserve.runner.sampler import sample
from glmserve.scheduler.random import noise_key
from glmserve_cpu_kernels.library import UnavailableError, load
from support.flat_sampling import sampling_input

BACKEND = SdpaAttention(1, torch.float32, torch.device("cpu"), 16, ExactStore(torch.float32))


@pytest.fixture(params=["torch", "cpu", "native"])
def ops(request: pytest.FixtureRequest) -> AnyOps:
    match request.param:
        case "torch":
            return Ops(BACKEND)
        case "cpu":
            return TorchCpuOps(BACKEND, torch.float32)
    try:
        return NativeCpuOps(BACKEND, torch.float32, load())
    except UnavailableError as error:
        pytest.skip(str(error))


def choose(logits: list[float] | np.ndarray, vocab_limit: int | None = None, **options: Any) -> int:
    rows = torch.tensor(np.asarray(logits), dtype=torch.float32)[None]
    return sample(
        rows, [sampling_input(**options)], TorchCpuOps(BACKEND, torch.float32), vocab_limit
    )[0]


def sweep(logits: list[float] | np.ndarray, steps: int = 2000, **options: Any) -> Counter[int]:
    """How often each id is chosen with as many different keys, the same in every run."""
    rows = torch.tensor(np.asarray(logits), dtype=torch.float32).expand(steps, -1).clone()
    inputs = [sampling_input(noise_key=noise_key(1, i), **options) for i in range(steps)]
    return Counter(sample(rows, inputs, TorchCpuOps(BACKEND, torch.float32), None))


def history(prompt: list[int], output: list[int]) -> dict[str, Any]:
    packed = np.array(prompt + output, dtype=np.int32).tobytes()
    return {"history": packed, "prompt_length": len(prompt)}


def expected_distribution(logits: np.ndarray, s: SamplingInput) -> np.ndarray:
    """The definition, straightforward, in float64."""
    logits = logits.astype(np.float64).copy()
    tokens = np.frombuffer(s.history, dtype=np.int32).tolist()
    for token in set(tokens):
        factor = s.sampling.repetition_penalty
        logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
    for token, count in Counter(tokens[s.prompt_length :]).items():
        logits[token] -= s.sampling.presence_penalty + s.sampling.frequency_penalty * count
    for token, bias in s.sampling.logit_bias.items():
        logits[token] += bias
    p = np.exp((logits - logits.max()) / s.sampling.temperature)
    p /= p.sum()
    ranked = sorted(range(len(p)), key=lambda i: (-p[i], i))
    if s.sampling.top_k:
        p[ranked[s.sampling.top_k :]] = 0
        p /= p.sum()
    before = 0.0
    for token in ranked:
        mass = p[token]
        if before >= s.sampling.top_p and token != ranked[0]:
            p[token] = 0
        before += mass
    p[p < s.sampling.min_p * p.max()] = 0
    return p / p.sum()


class TestGreedy:
    def test_largest(self, ops: Ops) -> None:
        logits = torch.tensor([[0.0, 3.0, 1.0], [9.0, 3.0, 1.0]])
        assert sample(logits, [SamplingInput()] * 2, ops, None) == [1, 0]

    def test_vocab_limit(self, ops: Ops) -> None:
        logits = torch.tensor([[0.0, 1.0, 9.0]])
        assert sample(logits, [SamplingInput()], ops, 2) == [1]

    def test_top_k_of_one_is_greedy_even_among_equals(self) -> None:
        logits = [1.0, 7.0, 7.0, 7.0]
        assert sweep(logits, temperature=1.0, top_k=1) == {1: 2000}
        assert choose(logits) == 1

    def test_tiny_temperature(self) -> None:
        for temperature in (1e-6, 1e-44, 1e-4, 1e-3):
            assert sweep([1.0, 2.0, 1.5], 50, temperature=temperature) == {1: 50}

    def test_greedy_with_penalties_and_bias(self) -> None:
        logits = [5.0, 4.0, 3.0]
        assert choose(logits, frequency_penalty=0.6, **history([], [0, 0])) == 1
        assert choose(logits, presence_penalty=1.5, **history([0], [])) == 0
        assert choose(logits, repetition_penalty=1.5, **history([0], [])) == 1
        assert choose(logits, logit_bias={2: 100.0}) == 2
        assert choose(logits, logit_bias={0: -100.0, 1: -100.0}) == 2


class TestDistribution:
    LOGITS = np.random.default_rng(3).normal(size=40) * 2

    @pytest.mark.parametrize(
        "options",
        [
            {"temperature": 1.0},
            {"temperature": 0.3},
            {"temperature": 2.0},
            {"temperature": 1.0, "top_k": 5},
            {"temperature": 1.0, "top_k": 1000},
            {"temperature": 0.8, "top_p": 0.8},
            {"temperature": 1.0, "top_p": 0.0},
            {"temperature": 1.0, "top_p": 1e-9},
            {"temperature": 1.0, "top_p": 0.999999},
            {"temperature": 1.5, "top_k": 10, "top_p": 0.6},
            {"temperature": 1.0, "min_p": 0.2},
            {"temperature": 1.0, "min_p": 1.0},
            {"temperature": 1.2, "min_p": 0.05, "top_k": 12, "top_p": 0.9},
            {"temperature": 1.0, "logit_bias": {3: 4.0, 7: -100.0}},
            {"temperature": 1.0, "presence_penalty": 1.0, **history([1, 2], [3, 3, 9])},
            {"temperature": 1.0, "frequency_penalty": 0.7, **history([1, 2], [3, 3, 9])},
            {"temperature": 1.0, "repetition_penalty": 1.8, **history([1, 2], [3, 3, 9])},
            {
                "temperature": 0.7,
                "presence_penalty": -1.0,
                "frequency_penalty": 0.3,
                "repetition_penalty": 0.8,
                "logit_bias": {5: 1.0},
                "top_p": 0.9,
                **history([1, 2, 39], [3, 3, 9]),
            },
        ],
    )
    def test_frequencies(self, options: dict[str, Any]) -> None:
        steps = 4000
        got = sweep(self.LOGITS, steps, **options)
        want = expected_distribution(self.LOGITS, sampling_input(**options))
        for token, probability in enumerate(want):
            deviation = math.sqrt(steps * probability * (1 - probability))
            assert abs(got[token] - probability * steps) <= 4.5 * deviation, token

    @given(
        seed=st.integers(0, 10_000),
        size=st.sampled_from([1, 2, 17, 300, 1000]),
        levels=st.sampled_from([2, 5, 1000]),
        top_k=st.sampled_from([0, 1, 3, 50, 5000]),
        top_p=st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]),
        min_p=st.sampled_from([0.0, 0.01, 0.5]),
        temperature=st.sampled_from([0.1, 1.0, 3.0]),
    )
    @hypothesis_settings(max_examples=80)
    def test_kept_tokens(
        self,
        seed: int,
        size: int,
        levels: int,
        top_k: int,
        top_p: float,
        min_p: float,
        temperature: float,
    ) -> None:
        """Also with many equal logits; a token that is not kept is never chosen."""
        rng = np.random.default_rng(seed)
        logits = (np.round(rng.normal(size=size) * levels / 4) * 4 / levels).astype(np.float32)
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        # A top_p that falls exactly on a sum of equal probabilities is decided by rounding.
        want = np.zeros(size)
        for nudge in (-1e-6, 1e-6):
            moved = SamplingInput(
                sampling=Sampling(
                    temperature=temperature,
                    top_k=top_k,
                    top_p=min(1.0, max(0.0, top_p + nudge)) if top_p < 1.0 else 1.0,
                    min_p=min_p * (1 - nudge),
                )
            )
            want += expected_distribution(logits, moved)
        assert set(sweep(logits, 64, **options)) <= set(np.flatnonzero(want))

    def test_top_p_reached_exactly(self) -> None:
        """The token after those that have exactly top_p is not kept, as in transformers."""
        assert sweep([0.0] * 4, 100, temperature=1.0, top_p=0.5).keys() == {0, 1}

    @pytest.mark.parametrize("step", range(1, 30))
    def test_top_p_among_many_equals(self, step: int) -> None:
        """Their mean may be rounded to either side of them."""
        weight = np.exp(-0.01 * step)
        weights = np.full(3000, weight, dtype=np.float32)
        weights[7] = 1.0
        kept = int(np.ceil((0.5 * (1 + 2999 * weight) - 1) / weight)) + 1
        assert abs(len(nucleus(weights, 0.5)) - kept) <= 1

    def test_vocab_limit(self) -> None:
        for options in ({}, {"top_p": 0.99}, {"top_k": 3}, {"logit_bias": {3: 100.0}}):
            logits = [0.0, 0.0, 0.0, 50.0]
            for i in range(20):
                assert choose(logits, 3, temperature=1.0, noise_key=i, **options) < 3

    def test_ids_outside_the_vocabulary_are_ignored(self) -> None:
        options = {"repetition_penalty": 2.0, "presence_penalty": 1.0, **history([9], [-1, 7, 1])}
        assert choose([1.0, 0.9], 2, logit_bias={9: 3.0, -1: 3.0}, **options) == 0


class TestDraw:
    def test_never_a_weight_of_zero(self) -> None:
        weights = np.zeros(1000, dtype=np.float32)
        weights[[300, 301, 700]] = 1.0
        drawn = Counter(draw(weights, np.arange(1000), noise_key(2, i)) for i in range(3000))
        assert drawn.keys() == {300, 301, 700}
        assert all(abs(count - 1000) < 120 for count in drawn.values())

    def test_odds_across_blocks(self) -> None:
        """Chi-square over unequal weights that fill several blocks unevenly."""
        rng = np.random.default_rng(1)
        ids = np.sort(rng.choice(2000, 60, replace=False))
        weights = (rng.random(60) + 0.1).astype(np.float32)
        steps = 20_000
        drawn = Counter(draw(weights, ids, noise_key(3, i)) for i in range(steps))
        expected = weights / weights.sum() * steps
        chi_square = sum((drawn[int(i)] - e) ** 2 / e for i, e in zip(ids, expected, strict=True))
        assert chi_square < 98.3  # 99.9 % of the chi-square distribution, 59 degrees of freedom

    def test_rounding_errors_do_not_matter(self) -> None:
        """Even where every token of a large vocabulary is about equally likely."""
        rng = np.random.default_rng(4)
        ids = np.arange(20_000)
        for i in range(300):
            weights = rng.random(20_000).astype(np.float32)
            moved = weights * (1 + 1e-6 * rng.normal(size=20_000)).astype(np.float32)
            assert draw(weights, ids, noise_key(5, i)) == draw(moved, ids, noise_key(5, i))

    def test_an_id_keeps_its_noise_when_others_are_dropped(self) -> None:
        """So a token at the edge of top_p changes nothing but itself."""
        rng = np.random.default_rng(6)
        weights, ids = rng.random(256).astype(np.float32), np.arange(256)
        for i in range(100):
            chosen = draw(weights, ids, i)
            kept = ids != (chosen + 57) % 256
            assert draw(weights[kept], ids[kept], i) == chosen

    def test_noise_is_gumbel(self) -> None:
        noise = gumbel_noise(np.arange(100_000), 12345)
        assert abs(noise.mean() - 0.5772) < 0.015  # Euler's constant
        assert abs(noise.var() - math.pi**2 / 6) < 0.03


class TestNotFinite:
    @pytest.mark.parametrize(
        "options",
        [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.5}, {"logit_bias": {0: 1.0}}],
    )
    def test_only_that_row(self, ops: Ops, options: dict[str, Any]) -> None:
        logits = torch.zeros(4, 300)
        logits[:, 0] = 100.0
        logits[1, 200] = float("nan")
        logits[2, 100] = float("inf")
        logits[3] = float("-inf")
        tokens = sample(logits, [sampling_input(**options)] * 4, ops, None)
        assert tokens[0] == 0
        assert tokens[1:] == [INVALID_TOKEN_ID] * 3

    def test_beyond_the_vocabulary_it_does_not_matter(self, ops: Ops) -> None:
        logits = torch.tensor([[1.0, 2.0, float("nan")]])
        assert sample(logits, [SamplingInput()], ops, 2) == [1]

    def test_minus_infinity_is_never_chosen(self, ops: Ops) -> None:
        logits = torch.tensor([[float("-inf"), 2.0, 1.0]]).expand(50, -1).clone()
        inputs = [
            SamplingInput(noise_key=i, sampling=Sampling(temperature=2.0, top_p=0.99))
            for i in range(50)
        ]
        assert set(sample(logits, inputs, ops, None)) == {1, 2}


@given(seed=st.integers(0, 1000))
@hypothesis_settings(max_examples=30)
def test_rows_are_independent(seed: int) -> None:
    """A row gives the same token alone and among others, whatever those ask for."""
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.normal(size=(12, 500)).astype(np.float32) * 3)
    inputs = [
        SamplingInput(
            noise_key=int(rng.integers(2**63)),
            **history([1, 2, 3], rng.integers(0, 500, 20).tolist()),
            sampling=Sampling(
                temperature=float(rng.choice([0.0, 0.5, 1.0])),
                top_k=int(rng.choice([0, 1, 40])),
                top_p=float(rng.choice([0.5, 0.9, 1.0])),
                min_p=float(rng.choice([0.0, 0.1])),
                repetition_penalty=float(rng.choice([1.0, 1.3])),
            ),
        )
        for _ in rows
    ]
    ops = TorchCpuOps(BACKEND, torch.float32)
    together = sample(rows.clone(), inputs, ops, None)
    alone = [
        sample(row[None].clone(), [s], ops, None)[0] for row, s in zip(rows, inputs, strict=True)
    ]
    assert together == alone
