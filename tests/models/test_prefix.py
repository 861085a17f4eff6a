"""P-Tuning v2: logits behind a prefix, and prefixes that cannot be read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glmserve.errors import CheckpointError
from glmserve.model_config import read_model_config
from glmserve.models.prefix import load_prefix
from support.golden import ATOL, PREFIXES, read_greedy, read_logits
from support.paged_model import Operations, PagedModel

NAME = "transformer.prefix_encoder."


@pytest.mark.parametrize(("base", "prefix"), PREFIXES)
@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("operations", ["plain", "packed", "native"])
def test_logits(
    golden_models: Path, base: str, prefix: str, chunk: int, operations: Operations
) -> None:
    model = PagedModel(golden_models / base, ptuning=golden_models / prefix, operations=operations)
    found = model.continued(*read_greedy(golden_models / prefix), chunk)
    for got, (_, want) in zip(found, read_logits(golden_models / prefix), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize("chunk", [1, 7, 16])
def test_prompts_in_chunks(golden_models: Path, chunk: int) -> None:
    model = PagedModel(golden_models / "glm2_base", ptuning=golden_models / "glm2_ptuning")
    for ids, want in read_logits(golden_models / "glm2_ptuning"):
        np.testing.assert_allclose(model.logits(ids, chunk), want, rtol=0, atol=ATOL)


def test_int8_cache(golden_models: Path) -> None:
    base, prefix = golden_models / "glm2_base", golden_models / "glm2_ptuning"
    model = PagedModel(base, ptuning=prefix, kv_cache_dtype="int8")
    for ids, want in read_logits(prefix):
        assert np.linalg.norm(model.logits(ids, 9) - want) / np.linalg.norm(want) < 0.03


def write_prefix(folder: Path, golden: Path, tensors: dict[str, Tensor]) -> Path:
    """A P-Tuning checkpoint with the config.json of another and these tensors."""
    folder.mkdir()
    shutil.copy(golden / "config.json", folder)
    torch.save(
        {NAME + name: tensor for name, tensor in tensors.items()}, folder / "pytorch_model.bin"
    )
    return folder


def read_prefix(base: Path, folder: Path) -> Tensor:
    config = read_model_config(base, None, str(folder))
    assert config.prefix is not None
    return load_prefix(config, config.prefix, torch.float32)


def test_projection_of_a_narrow_embedding(golden_models: Path, tmp_path: Path) -> None:
    """ChatGLM-6B's is as wide as its hidden states; ChatGLM2's as its keys and values."""
    tensors = {
        "embedding.weight": torch.randn(5, 12),
        "trans.0.weight": torch.randn(9, 12),
        "trans.0.bias": torch.randn(9),
        "trans.2.weight": torch.randn(192, 9),
        "trans.2.bias": torch.randn(192),
    }
    folder = write_prefix(tmp_path / "new", golden_models / "glm2_ptuning_proj", tensors)
    embedding, first, first_bias, second, second_bias = (t.double() for t in tensors.values())
    rows = torch.tanh(embedding @ first.T + first_bias) @ second.T + second_bias
    want = rows.view(5, 3, 4, 16).transpose(0, 1).float()  # 3 layers, 2 heads of keys and values
    torch.testing.assert_close(read_prefix(golden_models / "glm2_base", folder), want)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "embedding.weight: missing"),
        ({"embedding.weight": (7, 192)}, r"\[7, 192\] numbers, expected \[8, 192\]"),
        ({"embedding.weight": (8, 96)}, "it is another model's"),
        ({"embedding.weight": (8, 192), "trans.0.bias": (3,)}, "trans.0.bias: unexpected"),
        ({"embedding.weight": (8 * 192,)}, "unexpected"),
    ],
)
def test_refusals(
    golden_models: Path, tmp_path: Path, tensors: dict[str, tuple[int, ...]], said: str
) -> None:
    zeros = {name: torch.zeros(shape) for name, shape in tensors.items()}
    folder = write_prefix(tmp_path / "new", golden_models / "glm2_ptuning", zeros)
    with pytest.raises(CheckpointError, match=said):
        read_prefix(golden_models / "glm2_base", folder)


def test_projections_that_do_not_fit_each_other(golden_models: Path, tmp_path: Path) -> None:
    shapes = [("embedding.weight", (5, 12)), ("trans.0.weight", (9, 11)), ("trans.0.bias", (9,))]
    shapes += [("trans.2.weight", (192, 9)), ("trans.2.bias", (192,))]
    zeros = {name: torch.zeros(shape) for name, shape in shapes}
    folder = write_prefix(tmp_path / "new", golden_models / "glm2_ptuning_proj", zeros)
    with pytest.raises(CheckpointError, match="expected 12 columns, found 11"):
        read_prefix(golden_models / "glm2_base", folder)
