"""ChatGLM-6B's logits: contexts read whole in both directions, then token by token or in chunks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from glmserve.config import ConversionConfig, Quantization, report_nothing
from glmserve.converter.convert import convert
from support.golden import ATOL, FIRST_GENERATION, read_greedy, read_logits
from support.paged_model import Operations, PagedModel


@pytest.mark.parametrize("name", FIRST_GENERATION)
@pytest.mark.parametrize("operations", ["plain", "packed"])
def test_one_by_one(golden_models: Path, name: str, operations: Operations) -> None:
    model = PagedModel(golden_models / name, operations=operations, block_size=5, num_blocks=128)
    for ids, want in read_logits(golden_models / name):
        np.testing.assert_allclose(model.logits(ids), want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", FIRST_GENERATION)
@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("operations", ["packed", "native"])
def test_all_together(golden_models: Path, name: str, chunk: int, operations: Operations) -> None:
    model = PagedModel(golden_models / name, operations=operations)
    found = model.continued(*read_greedy(golden_models / name), chunk)
    for got, (_, want) in zip(found, read_logits(golden_models / name), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("operations", ["packed", "native"])
def test_prompts_join_others_that_decode(golden_models: Path, operations: Operations) -> None:
    folder = golden_models / "glm1_base"
    prompts, greedy = read_greedy(folder)
    (_, want), (_, want_later) = read_logits(folder)[:2]
    model = PagedModel(folder, operations=operations)
    first, later = (model.sequence(len(p) + 24) for p in prompts[:2])
    model.feed((first, prompts[0]))
    got, got_later = model.feed((first, greedy[0][:1]), (later, prompts[1]))
    end, end_later = len(prompts[0]), len(prompts[1])
    np.testing.assert_allclose(got, want[end : end + 1], rtol=0, atol=ATOL)
    np.testing.assert_allclose(got_later, want_later[:end_later], rtol=0, atol=ATOL)


@pytest.mark.parametrize("operations", ["packed", "native"])
def test_int8_cache(golden_models: Path, operations: Operations) -> None:
    folder = golden_models / "glm1_base"
    model = PagedModel(folder, kv_cache_dtype="int8", operations=operations)
    found = model.continued(*read_greedy(folder), 1)
    for got, (_, want) in zip(found, read_logits(folder), strict=True):
        assert np.linalg.norm(got - want) / np.linalg.norm(want) < 0.03


@pytest.mark.parametrize(
    ("dtype", "operations"),
    [(torch.bfloat16, "packed"), (torch.float16, "packed"), (torch.bfloat16, "native")],
)
def test_half_precision(golden_models: Path, dtype: torch.dtype, operations: Operations) -> None:
    """Off by rounding alone: by the same few units in the last place in both formats."""
    model = PagedModel(golden_models / "glm1_base", dtype=dtype, operations=operations)
    for ids, want in read_logits(golden_models / "glm1_base"):
        assert np.abs(model.logits(ids) - want).mean() < 30 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("quantization", "operations"),
    [("int8", "packed"), ("w8a8", "packed"), ("int8", "native"), ("w8a8", "native")],
)
def test_rounded_on_load(
    golden_models: Path, quantization: Quantization, operations: Operations
) -> None:
    """Random weights are the worst case; what is wrong, not rounded, is off by more than 1."""
    folder = golden_models / "glm1_base"
    model = PagedModel(
        folder, operations=operations, dtype=torch.bfloat16, quantization=quantization
    )
    for ids, want in read_logits(folder):
        assert np.linalg.norm(model.logits(ids) - want) < 0.2 * np.linalg.norm(want)


@pytest.mark.parametrize("operations", ["packed", "native"])
def test_int4(golden_models: Path, tmp_path: Path, operations: Operations) -> None:
    """A checkpoint of 4 bits is the same model as one of the numbers it stands for."""
    base, codes, exact = golden_models / "glm1_base", tmp_path / "int4", tmp_path / "exact"
    convert(ConversionConfig(str(base), str(codes), 4, None), report_nothing)
    exact.mkdir()
    shutil.copy(base / "config.json", exact)
    stored = load_file(codes / "model.safetensors")
    for name in [name for name in stored if name.endswith("weight_scale")]:
        scale, packed = stored.pop(name).float(), stored[name.removesuffix("_scale")]
        halves = torch.stack((packed >> 4, packed << 4 >> 4), dim=-1).flatten(1)
        stored[name.removesuffix("_scale")] = halves * scale[:, None]
    save_file(stored, exact / "model.safetensors")
    models = PagedModel(codes, operations=operations), PagedModel(exact)
    for ids, _ in read_logits(base):
        got, want = (model.logits(ids) for model in models)
        np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)
