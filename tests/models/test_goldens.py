"""Logits of the original models, whole, in chunks, batched, over permuted blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from paged_model import PagedModel

NAMES = [
    "glm2_base",
    "glm2_bin_sharded",
    "glm2_mha",
    "glm2_no_qkv_bias",
    "glm2_res_post_ln",
    "glm2_32k_interp",
    "glm3_32k_base",
    "glm3_base_sharded_st",
    "glm4_base",
]
ATOL = 5e-4  # the original in float32 is itself 1e-5 ... 8e-5 away from float64

Golden = list[tuple[list[int], np.ndarray]]


def read_golden(folder: Path) -> Golden:
    """Prompt and continuation of each sequence, and the original's logits."""
    data = np.load(folder / "reference_fp32.npz")
    count = sum(name.startswith("ids_") for name in data)
    return [
        ([*data[f"ids_{i}"].tolist(), *data[f"greedy_{i}"].tolist()], data[f"logits_{i}"])
        for i in range(count)
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [None, 1, 7, 16])
def test_one_by_one(golden_models: Path, name: str, chunk: int | None) -> None:
    folder = golden_models / name
    model = PagedModel(folder)
    for ids, want in read_golden(folder):
        np.testing.assert_allclose(model.logits(ids, chunk), want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", NAMES)
def test_plain_torch(golden_models: Path, name: str) -> None:
    folder = golden_models / name
    model = PagedModel(folder, packed=False, block_size=5, num_blocks=128)
    for ids, want in read_golden(folder):
        np.testing.assert_allclose(model.logits(ids, 30), want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", NAMES)
def test_all_together(golden_models: Path, name: str) -> None:
    """Every step mixes decodes and chunks of different lengths of all sequences."""
    folder = golden_models / name
    golden = read_golden(folder)
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
    for i, (ids, want) in enumerate(read_golden(folder)):
        got = model.logits(ids, chunk)
        assert np.abs(got - want).mean() < 0.1
        assert np.abs(got - want).max() < 1.0
        theirs = torch.from_numpy(original[f"logits_{i}"].view(np.int16)).view(torch.bfloat16)
        assert np.abs(got - want).mean() < 1.5 * np.abs(theirs.float().numpy() - want).mean()
