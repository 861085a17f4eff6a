"""Logits of the original models, whole, in chunks, batched, over permuted blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from golden import ATOL, NAMES, read_logits
from paged_model import PagedModel


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [None, 1, 7, 16])
def test_one_by_one(golden_models: Path, name: str, chunk: int | None) -> None:
    folder = golden_models / name
    model = PagedModel(folder)
    for ids, want in read_logits(folder):
        np.testing.assert_allclose(model.logits(ids, chunk), want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", NAMES)
def test_plain_torch(golden_models: Path, name: str) -> None:
    folder = golden_models / name
    model = PagedModel(folder, packed=False, block_size=5, num_blocks=128)
    for ids, want in read_logits(folder):
        np.testing.assert_allclose(model.logits(ids, 30), want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", NAMES)
def test_all_together(golden_models: Path, name: str) -> None:
    """Every step mixes decodes and chunks of different lengths of all sequences."""
    folder = golden_models / name
    golden = read_logits(folder)
    model = PagedModel(folder)
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
    folder = golden_models / name
    model = PagedModel(folder, dtype=torch.bfloat16)
    original = np.load(folder / "reference_bf16.npz")
    for i, (ids, want) in enumerate(read_logits(folder)):
        got = model.logits(ids, chunk)
        assert np.abs(got - want).mean() < 0.1
        assert np.abs(got - want).max() < 1.0
        theirs = torch.from_numpy(original[f"logits_{i}"].view(np.int16)).view(torch.bfloat16)
        assert np.abs(got - want).mean() < 1.5 * np.abs(theirs.float().numpy() - want).mean()
