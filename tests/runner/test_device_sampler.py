"""The device's sampler against the host's, which defines what is right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, cast

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from glmserve.contract.sampling import Sampling
from glmserve.contract.step import INVALID_TOKEN_ID, SamplingInput
from glmserve.ops.attention.backend import AnyAttentionBackend
from glmserve.ops.base import Ops
from glmserve.runner.sampler import sample
from glmserve.runner.token_masks import apply_token_masks
from support.flat_sampling import sampling_input
from support.slow import slow

pytest.importorskip("triton", reason="kernels need triton, which there is for Linux only")

from glmserve.ops.uploads import make_uploads
from glmserve.runner.device_sampler import DeviceSampler

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
ROWS = 64 if INTERPRETED else 4000


class Vocabulary(NamedTuple):
    size: int
    limit: int | None
    never_sampled: tuple[int, ...]

    def sampler(self) -> DeviceSampler:
        return DeviceSampler(*self, uploads=make_uploads(DEVICE), chip="sm_80")


VOCABULARIES = [
    Vocabulary(5, None, ()),
    Vocabulary(40, 37, (0, 3)),
    Vocabulary(300, None, (299,)),
    Vocabulary(700, 650, ()),
    Vocabulary(704, 600, (5,)),
]


def on_host(
    logits: Tensor, inputs: Sequence[SamplingInput], masks: list[bytes], vocabulary: Vocabulary
) -> list[int]:
    rows = logits.clone()
    rows[:, list(vocabulary.never_sampled)] = float("-inf")
    apply_token_masks(rows, inputs, lambda: masks)
    rows = rows[:, : vocabulary.limit]
    return sample(rows, inputs, Ops(cast(AnyAttentionBackend, None)), None)


def on_device(
    logits: Tensor, inputs: Sequence[SamplingInput], masks: list[bytes], sampler: DeviceSampler
) -> list[int]:
    out = sampler.sample(logits.clone().to(DEVICE), inputs, masks)
    assert out.dtype == torch.int64
    tokens: list[int] = out.tolist()
    return tokens


def random_logits(rng: np.random.Generator, rows: int, size: int) -> Tensor:
    """With ties, -inf, and rows that are not finite."""
    levels = rng.choice([2, 5, 1000, 10**6], (rows, 1))
    logits = (
        np.round(rng.normal(size=(rows, size)) * rng.choice([1, 3], (rows, 1)) * levels) / levels
    )
    logits[rng.random((rows, size)) < 0.05] = -np.inf
    for odd in (np.nan, np.inf):
        spoilt = np.flatnonzero(rng.random(rows) < 0.04)
        logits[spoilt, rng.integers(size, size=len(spoilt))] = odd
    logits[rng.random(rows) < 0.02] = -np.inf
    return torch.from_numpy(logits.astype(np.float32))


def random_input(rng: np.random.Generator, size: int) -> SamplingInput:
    """Any mix of options; half of them have no effect."""

    def sometimes(value: object, otherwise: object) -> object:
        return value if rng.random() < 0.3 else otherwise

    history = rng.integers(-1, size + 2, rng.integers(0, 30)).astype(np.int32)
    biased = rng.integers(-1, size + 1, 3).tolist()
    options = {
        "noise_key": int(rng.integers(2**64, dtype=np.uint64)),
        "temperature": float(rng.choice([0.0, 1e-6, 0.1, 0.7, 1.0, 3.0])),
        "top_k": int(rng.choice([0, 0, 1, 3, 50, 5000])),
        "top_p": float(rng.choice([1.0, 1.0, 0.0, 0.1, 0.5, 0.8, 0.95])),
        "min_p": float(rng.choice([0.0, 0.0, 0.01, 0.5])),
        "presence_penalty": sometimes(0.5, 0.0),
        "frequency_penalty": sometimes(-0.3, 0.0),
        "repetition_penalty": sometimes(1.3, 1.0),
        "logit_bias": sometimes(dict.fromkeys(biased, 2.0), {}),
        "history": history.tobytes(),
        "prompt_length": int(rng.integers(0, len(history) + 1)),
        "banned": sometimes(tuple(rng.integers(0, size + 2, 3).tolist()), ()),
        "constrained": sometimes(True, False),
    }
    return sampling_input(**options)


def random_mask(rng: np.random.Generator, size: int) -> bytes:
    """Of any length; a few allow one id, or none, or are empty."""
    mask = rng.integers(0, 256, -(-size // 8)).astype(np.uint8)
    kind = rng.integers(6)
    if kind <= 1:
        mask[:] = 0
        mask[rng.integers(len(mask))] = kind
    return b"" if kind == 2 else mask[: rng.integers(1, len(mask) + 1)].tobytes()


def nudged(s: SamplingInput) -> list[SamplingInput]:
    """The same, but for less than rounding changes."""
    return [
        msgspec.structs.replace(
            s,
            sampling=msgspec.structs.replace(
                s.sampling,
                temperature=s.sampling.temperature * (1 + change),
                top_p=min(1.0, max(0.0, s.sampling.top_p * (1 + change))),
                min_p=s.sampling.min_p * (1 + change),
            ),
        )
        for change in (-1e-6, 1e-6)
    ]


def is_rounding(
    logits: Tensor, s: SamplingInput, mask: list[bytes], vocabulary: Vocabulary, token: int
) -> bool:
    """Whether the host would choose this token too, had it rounded another way."""
    return any(token in on_host(logits[None], [n], mask, vocabulary) for n in nudged(s))


@pytest.mark.parametrize("vocabulary", [*VOCABULARIES[:2], *map(slow, VOCABULARIES[2:])], ids=str)
def test_chooses_what_the_host_chooses(vocabulary: Vocabulary) -> None:
    rng = np.random.default_rng(vocabulary.size)
    logits = random_logits(rng, ROWS, vocabulary.size)
    inputs = [random_input(rng, vocabulary.size) for _ in range(ROWS)]
    masks = [random_mask(rng, vocabulary.size) if s.constrained else None for s in inputs]
    given = [mask for mask in masks if mask is not None]
    want = on_host(logits, inputs, given, vocabulary)
    got = on_device(logits, inputs, given, vocabulary.sampler())
    different = [i for i in range(ROWS) if got[i] != want[i]]
    assert len(different) <= ROWS / 1000
    for i in different:
        mask = [] if masks[i] is None else [masks[i]]
        assert is_rounding(logits[i], inputs[i], mask, vocabulary, got[i]), inputs[i]


def test_rows_are_independent() -> None:
    rng = np.random.default_rng(7)
    vocabulary = VOCABULARIES[2]
    sampler = vocabulary.sampler()
    logits = random_logits(rng, 12, vocabulary.size)
    inputs = [random_input(rng, vocabulary.size) for _ in range(12)]
    masks = [random_mask(rng, vocabulary.size) for s in inputs if s.constrained]
    together = on_device(logits, inputs, masks, sampler)
    given = iter(masks)
    for i, s in enumerate(inputs):
        mask = [next(given)] if s.constrained else []
        assert on_device(logits[i : i + 1], [s], mask, sampler) == together[i : i + 1]


class TestGreedy:
    def test_whole_batches_and_mixed_ones(self) -> None:
        vocabulary = Vocabulary(300, 290, (8,))
        logits = random_logits(np.random.default_rng(8), 20, vocabulary.size)
        greedy = [SamplingInput()] * 20
        want = on_host(logits, greedy, [], vocabulary)
        assert INVALID_TOKEN_ID in want
        sampler = vocabulary.sampler()
        assert on_device(logits, greedy, [], sampler) == want
        mixed = [*greedy[:19], SamplingInput(sampling=Sampling(temperature=1.0))]
        assert on_device(logits, mixed, [], sampler)[:19] == want[:19]

    def test_logits_are_only_read(self) -> None:
        logits = torch.randn(3, 40, device=DEVICE)
        before = logits.clone()
        VOCABULARIES[1].sampler().sample(logits, [SamplingInput()] * 3, [])
        assert torch.equal(logits, before)

    def test_nothing_travels_to_the_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sampler = VOCABULARIES[1].sampler()
        monkeypatch.setattr("glmserve.runner.device_sampler.upload_together", None)
        logits = torch.zeros(2, 40, device=DEVICE)
        assert sampler.sample(
            logits, [SamplingInput(), SamplingInput(sampling=Sampling(top_p=0.5))], []
        ).tolist() == [
            1,
            1,
        ]


class TestNotFinite:
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    @pytest.mark.parametrize("odd", [float("nan"), float("inf")])
    def test_only_where_it_counts(self, temperature: float, odd: float) -> None:
        """Not at ids that do not exist, and of masked and banned ones only NaN behind a mask."""
        vocabulary = Vocabulary(40, 37, (0,))
        sampler = vocabulary.sampler()
        plain = SamplingInput(sampling=Sampling(temperature=temperature))
        rows = [
            (plain, 38, b""),
            (plain, 0, b""),
            (plain, 5, b""),
            (msgspec.structs.replace(plain, banned=(5,)), 5, b""),
            (msgspec.structs.replace(plain, constrained=True), 5, b"\xc0"),
            (msgspec.structs.replace(plain, constrained=True), 6, b"\xc0"),
        ]
        logits = torch.zeros(len(rows), 40)
        for row, (_, place, _) in zip(logits, rows, strict=True):
            row[place] = odd
        inputs = [s for s, _, _ in rows]
        masks = [mask for s, _, mask in rows if s.constrained]
        got = on_device(logits, inputs, masks, sampler)
        assert got == on_host(logits, inputs, masks, vocabulary)
        hidden = [True, True, False, True, not np.isnan(odd), False]
        assert [token != INVALID_TOKEN_ID for token in got] == hidden


def test_a_mask_that_leaves_nothing() -> None:
    sampler = VOCABULARIES[1].sampler()
    rows = [
        SamplingInput(constrained=True),
        SamplingInput(constrained=True, sampling=Sampling(temperature=1.0)),
    ]
    masks = [b"\x00", b"\x09"]  # none, and only ids that are never sampled
    assert on_device(torch.zeros(2, 40), rows, masks, sampler) == [INVALID_TOKEN_ID] * 2
