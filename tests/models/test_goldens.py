"""Logits of the original models, whole, in chunks, batched, over permuted blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from support.golden import ATOL, NAMES, read_logits
from support.paged_model import Operations, PagedModel
from support.slow import slow


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [None, 1, slow(7), 16])
@pytest.mark.parametrize("operations", ["packed", "native"])
def test_one_by_one(
    golden_models: Path, name: str, chunk: int | None, operations: Operations
) -> None:
    """Native activations for integer weights have 22 bits here: as good as float32."""
    folder = golden_models / name
    model = PagedModel(folder, operations=operations)
    for ids, want in read_logits(folder):
        np.testing.assert_allclose(model.logits(ids, chunk), want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", NAMES)
def test_plain_torch(golden_models: Path, name: str) -> None:
    folder = golden_models / name
    model = PagedModel(folder, operations="plain", block_size=5, num_blocks=128)
    for ids, want in read_logits(folder):
        np.testing.assert_allclose(model.logits(ids, 30), want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operations", ["packed", "native"])
def test_all_together(golden_models: Path, name: str, operations: Operations) -> None:
    """Every step mixes decodes and chunks of different lengths of all sequences."""
    folder = golden_models / name
    golden = read_logits(folder)
    model = PagedModel(folder, operations=operations)
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
@pytest.mark.parametrize("operations", ["packed", "native"])
def test_bfloat16(
    golden_models: Path, name: str, chunk: int | None, operations: Operations
) -> None:
    folder = golden_models / name
    model = PagedModel(folder, dtype=torch.bfloat16, operations=operations)
    original = np.load(folder / "reference_bf16.npz")
    for i, (ids, want) in enumerate(read_logits(folder)):
        got = model.logits(ids, chunk)
        assert np.abs(got - want).mean() < 0.1
        assert np.abs(got - want).max() < 1.0
        theirs = torch.from_numpy(original[f"logits_{i}"].view(np.int16)).view(torch.bfloat16)
        assert np.abs(got - want).mean() < 1.5 * np.abs(theirs.float().numpy() - want).mean()


@pytest.mark.parametrize("name", ["glm2_base", "glm4_base"])
@pytest.mark.parametrize("operations", ["packed", "native"])
def test_int8_cache(golden_models: Path, name: str, operations: Operations) -> None:
    """K and V are off by 0.9 %; random weights, sure of nothing, are the worst case."""
    model = PagedModel(golden_models / name, kv_cache_dtype="int8", operations=operations)
    for ids, want in read_logits(golden_models / name):
        got = model.logits(ids, 9)
        assert 1e-4 < np.linalg.norm(got - want) / np.linalg.norm(want) < 0.03


@pytest.mark.parametrize("name", ["glm2_int8", "glm2_int4"])
def test_stored_codes_with_bfloat16(golden_models: Path, name: str) -> None:
    """Activations of 15 bits are more than bfloat16 has: rounding shows no more than without."""
    folder = golden_models / name
    packed, native = (
        PagedModel(folder, dtype=torch.bfloat16, operations=which) for which in ("plain", "native")
    )
    for ids, want in read_logits(folder):
        errors = [np.abs(model.logits(ids) - want).mean() for model in (packed, native)]
        assert errors[1] < 1.2 * errors[0]
