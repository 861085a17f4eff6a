"""Logits of the original models through the simulated calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from support.exhaustive import exhaustive
from support.golden import ATOL, NAMES, read_logits
from support.paged_model import PagedModel


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [16, exhaustive(None), exhaustive(1)])
def test_one_by_one(golden_models: Path, name: str, chunk: int | None) -> None:
    model = PagedModel(golden_models / name, operations="ascend", num_blocks=16)
    for ids, want in read_logits(golden_models / name):
        np.testing.assert_allclose(model.logits(ids, chunk), want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", NAMES)
def test_all_together(golden_models: Path, name: str) -> None:
    """Every step mixes decodes and chunks of different lengths of all sequences."""
    golden = read_logits(golden_models / name)
    model = PagedModel(golden_models / name, operations="ascend", num_blocks=16)
    sequences = [model.sequence(len(ids)) for ids, _ in golden]
    parts: list[list[np.ndarray]] = [[] for _ in golden]
    sizes = [[1, 9, 1, 1, 2][i % 5] for i in range(len(golden))]
    while any(s.length < len(ids) for s, (ids, _) in zip(sequences, golden, strict=True)):
        active = [i for i, (ids, _) in enumerate(golden) if sequences[i].length < len(ids)]
        work = [(sequences[i], golden[i][0][sequences[i].length :][: sizes[i]]) for i in active]
        for i, logits in zip(active, model.feed(*work), strict=True):
            parts[i].append(logits)
    for (_, want), got in zip(golden, parts, strict=True):
        np.testing.assert_allclose(np.concatenate(got), want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", ["glm2_base", "glm4_base"])
@pytest.mark.parametrize("chunk", [None, 1])
def test_bfloat16(golden_models: Path, name: str, chunk: int | None) -> None:
    """As near as the original in bfloat16 is."""
    model = PagedModel(
        golden_models / name, dtype=torch.bfloat16, operations="ascend", num_blocks=16
    )
    original = np.load(golden_models / name / "reference_bf16.npz")
    for i, (ids, want) in enumerate(read_logits(golden_models / name)):
        error = np.abs(model.logits(ids, chunk) - want)
        theirs = torch.from_numpy(original[f"logits_{i}"].view(np.int16)).view(torch.bfloat16)
        assert error.mean() < 1.5 * np.abs(theirs.float().numpy() - want).mean()
        assert error.max() < 1.0


@pytest.mark.parametrize("quantization", ["int8", "int4", "w8a8"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_quantised_weights(golden_models: Path, quantization: str, dtype: torch.dtype) -> None:
    """The vendor's products are as exact as plain ones with the same codes, and another rounding
    of activations."""
    folder = golden_models / "glm2_base"
    plain, ascend = (
        PagedModel(folder, dtype=dtype, operations=which, quantization=quantization)
        for which in ("plain", "ascend")
    )
    for ids, want in read_logits(folder):
        errors = [np.linalg.norm(m.logits(ids) - want) for m in (plain, ascend)]
        assert errors[1] < (1.7 if quantization == "w8a8" else 1.2) * errors[0]


@pytest.mark.parametrize("name", ["glm2_int8", "glm2_int4"])
def test_stored_codes(golden_models: Path, name: str) -> None:
    folder = golden_models / name
    plain, ascend = (
        PagedModel(folder, dtype=torch.float16, operations=which) for which in ("plain", "ascend")
    )
    for ids, want in read_logits(folder):
        errors = [np.abs(model.logits(ids) - want).mean() for model in (plain, ascend)]
        assert errors[1] < 1.3 * errors[0]
