"""Parts of the sampling kernel on their own, and what it draws over many keys."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.likely_tokens.kernel import find_threshold, last_equal, sum_above
from glmserve_kernels.sample.kernel import sample
from glmserve_kernels.tiles import load_tiles

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@triton.jit
def _find(
    weights_ptr,
    size,
    floor_and_goal_ptr,
    out_ptr,
    COUNT: tl.constexpr,  # noqa: N803
    TILE: tl.constexpr,  # noqa: N803
):
    floor = tl.load(floor_and_goal_ptr).to(tl.float32)
    goal = tl.load(floor_and_goal_ptr + 1)
    threshold, equals = find_threshold(weights_ptr, size, floor, goal, COUNT, 4, TILE)
    tl.store(out_ptr, threshold.to(tl.float64))
    tl.store(out_ptr + 1, equals.to(tl.float64))
    tl.store(out_ptr + 2, last_equal(weights_ptr, size, threshold, equals, TILE).to(tl.float64))
    tl.store(out_ptr + 3, sum_above(weights_ptr, size, threshold, TILE))


def find(weights: Tensor, goal: float, *, count: bool, floor: float = 0.0) -> set[int]:
    """Ids that are kept."""
    floor_and_goal = torch.tensor([floor, goal], dtype=torch.float64, device=weights.device)
    out = torch.full((4,), float("nan"), dtype=torch.float64, device=weights.device)
    _find[(1,)](weights, len(weights), floor_and_goal, out, COUNT=count, TILE=64)
    threshold, equals, last, above = out.tolist()
    assert above == pytest.approx(float(weights[weights > threshold].double().sum()), rel=1e-6)
    ids = torch.arange(len(weights), device=weights.device)
    equal = (weights == threshold) & (ids <= last)
    assert int(equal.sum()) == equals
    return set(torch.nonzero((weights > threshold) | equal).flatten().tolist())


def likeliest(weights: Tensor, count: int) -> set[int]:
    """By sorting."""
    return set(weights.argsort(descending=True, stable=True)[:count].tolist())


def weights_of(kind: str, device: torch.device) -> Tensor:
    """[150]: the largest is 1; more than two tiles of 64."""
    rng = np.random.default_rng(1)
    weights = {
        "different": rng.random(150),
        "levels": np.round(rng.random(150) * 4) / 4,
        "equal": np.ones(150),
        "two": np.where(np.arange(150) % 3 == 0, 1.0, 0.25),
        "steep": 2.0 ** -np.arange(150),
        "neighbours": 1 - np.arange(150) * 2.0**-24,
        "few": np.where(np.arange(150) % 50 == 7, 0.5, 0.0),
    }[kind]
    weights[70] = 1.0
    return torch.from_numpy(weights.astype(np.float32)).to(device)


KINDS = ("different", "levels", "equal", "two", "steep", "neighbours", "few")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 51, 149])
def test_a_number_of_the_largest(kind: str, count: int, device: torch.device) -> None:
    weights = weights_of(kind, device)
    kept = find(weights, count, count=True)
    positive = int((weights > 0).sum())
    # A weight of 0 is never drawn: which of those are kept does not matter.
    assert {i for i in kept if weights[i] > 0} == likeliest(weights, min(count, positive))
    assert len(kept) == count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_the_fewest_with_a_share_of_the_sum(kind: str, share: float, device: torch.device) -> None:
    weights = weights_of(kind, device)
    sums = weights.sort(descending=True).values.double().cumsum(0)
    goal = max(1.0, share * float(sums[-1]))
    count = 1 + int((sums < goal * (1 - 1e-9)).sum())
    assert find(weights, goal, count=False) == likeliest(weights, count)


def test_a_floor_changes_nothing(device: torch.device) -> None:
    weights = weights_of("different", device)
    assert find(weights, 20.0, count=False, floor=0.5) == find(weights, 20.0, count=False)


ALLOWANCE = 4.5
"""Standard deviations."""


class TestDistribution:
    def frequencies(
        self, logits: np.ndarray, rows: int, device: torch.device, chip: str, **options: float
    ) -> np.ndarray:
        """How often each id is drawn."""
        generator = torch.Generator().manual_seed(3)
        keys = torch.randint(-(2**63), 2**63 - 1, (rows,), generator=generator)

        def column(name: str, default: float, dtype: torch.dtype) -> Tensor:
            return torch.full((rows,), options.get(name, default), dtype=dtype, device=device)

        allowed = torch.full((-(-len(logits) // 32),), -1, dtype=torch.int32, device=device)
        out = column("out", -2, torch.int64)
        sample(
            logits=torch.from_numpy(logits).float().to(device).repeat(rows, 1),
            temperature=column("temperature", 1.0, torch.float32),
            top_k=column("top_k", 0, torch.int32),
            top_p=column("top_p", 1.0, torch.float64),
            min_p=column("min_p", 0.0, torch.float32),
            noise_key=keys.to(device),
            mask_rows=column("mask_rows", -1, torch.int32),
            masks=allowed[None],
            allowed=allowed,
            out=out,
            tiles=load_tiles("sample", chip),
        )
        return np.bincount(out.cpu().numpy(), minlength=len(logits))

    @pytest.mark.slow
    def test_odds_across_blocks(self, device: torch.device, chip: str) -> None:
        """Chi-square over weights that lie unevenly in three blocks of ids."""
        rows = 250 if INTERPRETED else 50_000
        ids = [3, 4, 200, 255, 256, 300, 301, 302, 511, 512, 599]
        logits = np.full(600, -np.inf)
        logits[ids] = np.random.default_rng(2).normal(size=len(ids))
        drawn = self.frequencies(logits, rows, device, chip, temperature=2.0)
        expected = np.exp(logits / 2)
        expected *= rows / expected.sum()
        assert drawn.sum() == drawn[ids].sum() == rows
        chi_square = ((drawn - expected)[ids] ** 2 / expected[ids]).sum()
        assert chi_square < 29.6  # 99.9 % of the chi-square distribution, 10 degrees of freedom

    @pytest.mark.slow
    def test_what_is_not_kept_is_never_drawn(self, device: torch.device, chip: str) -> None:
        rows = 60 if INTERPRETED else 10_000
        logits = np.log(np.array([1.0, 4.0, 2.0, 4.0, 3.0, 2.0]))
        drawn = self.frequencies(logits, rows, device, chip, top_k=4, top_p=0.9, min_p=0.6)
        assert np.flatnonzero(drawn).tolist() == [1, 3, 4]
        want = np.array([0, 4, 0, 4, 3, 0]) / 11
        deviation = np.sqrt(rows * want * (1 - want))
        assert (np.abs(drawn - rows * want) <= ALLOWANCE * deviation).all()
