"""Made-up weights: the same for the same seed, finite through many layers, quickly made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from glmserve.config import report_nothing
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.models.dummy import dummy_weights
from glmserve.models.parameters import count_parameters, parameter_shapes
from support.tiny_models import BASE, random_weights, write_checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    return read_model_config(write_checkpoint(tmp_path, BASE, random_weights(BASE)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_seeded(config: ModelConfig, dtype: torch.dtype) -> None:
    first, again, other = (
        dict(dummy_weights(config, dtype, CPU, report_nothing, seed)) for seed in (1, 1, 2)
    )
    assert {name: tuple(p.shape) for name, p in first.items()} == parameter_shapes(config)
    assert all(p.dtype == dtype for p in first.values())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])
    assert sum(p.numel() for p in first.values()) == count_parameters(config)


def test_rows_differ_where_the_noise_repeats(config: ModelConfig) -> None:
    wide = dataclasses.replace(config, vocab_size=5000, hidden_size=1024)
    embedding = dict(dummy_weights(wide, torch.float32, CPU, report_nothing, 0))["embedding.weight"]
    assert len(np.unique(embedding.numpy(), axis=0)) == 5000


def test_variance_does_not_depend_on_the_shape(config: ModelConfig) -> None:
    wide = dataclasses.replace(config, hidden_size=512)
    weight = dict(dummy_weights(wide, torch.float32, CPU, report_nothing, 0))["layers.0.qkv.weight"]
    assert weight.std().item() == pytest.approx(512**-0.5, rel=0.05)
