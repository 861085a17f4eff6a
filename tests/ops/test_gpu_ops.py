"""Which backend a GPU gets, and what it says when it cannot have the one that was asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.ops.attention.batch_invariant_paged import BatchInvariantPagedAttention
from glmserve.ops.attention.paged import PagedAttention
from glmserve.ops.attention.sdpa import SdpaAttention
from glmserve.ops.base import AnyOps
from glmserve.ops.gpu import select_ops
from glmserve.ops.gpu.select_ops import Gpu, make_ops
from glmserve.ops.gpu.triton_ops import ElementwiseTritonOps
from support.emulated_gpu import GPU

OLD = GPU._replace(chip="sm_75", capability=(7, 5))


@pytest.fixture
def model(golden_models: Path) -> ModelConfig:
    return read_model_config(golden_models / "glm2_base")


def make(model: ModelConfig, gpu: Gpu = GPU, block_size: int = 16, **options: Any) -> AnyOps:
    config = RunnerConfig(checkpoint="x", **options)
    return make_ops(config, model, torch.float16, block_size, gpu)


def refusal(model: ModelConfig, gpu: Gpu = GPU, block_size: int = 16, **options: Any) -> str:
    with pytest.raises(OptionError) as caught:
        make(model, gpu, block_size, **options)
    return caught.value.message


class TestAuto:
    def test_triton_where_it_can_run(self, model: ModelConfig) -> None:
        assert isinstance(make(model).attention, PagedAttention)
        deterministic = make(model, deterministic=True)
        assert isinstance(deterministic.attention, BatchInvariantPagedAttention)

    @pytest.mark.parametrize("gpu", [GPU, OLD])
    def test_else_torch(self, model: ModelConfig, gpu: Gpu) -> None:
        small = dataclasses.replace(model, head_dim=8)
        ops = make(small, gpu)
        assert isinstance(ops.attention, SdpaAttention)
        assert not isinstance(ops, ElementwiseTritonOps)

    def test_without_the_package(self, model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(select_ops, "find_spec", lambda name: None)
        assert "pip install 'glmserve[xformers]'" in refusal(model, attention_backend="xformers")


class TestNamed:
    def test_sdpa_keeps_the_other_kernels(self, model: ModelConfig) -> None:
        ops = make(model, attention_backend="sdpa")
        assert isinstance(ops, ElementwiseTritonOps)
        assert isinstance(ops.attention, SdpaAttention)

    @pytest.mark.parametrize(
        ("gpu", "block_size", "reason"),
        [(OLD, 16, "compute capability 8.0"), (GPU, 24, "--block-size 24"), (GPU, 8, "from 16 on")],
    )
    def test_triton_says_why_not(
        self, model: ModelConfig, gpu: Gpu, block_size: int, reason: str
    ) -> None:
        message = refusal(model, gpu, block_size, attention_backend="triton")
        assert message.startswith("--attention-backend triton cannot be used here")
        assert reason in message
        assert "--deterministic cannot be had here" in refusal(
            model, gpu, block_size, deterministic=True
        )

    def test_deterministic_needs_triton(self, model: ModelConfig) -> None:
        message = refusal(model, deterministic=True, attention_backend="sdpa")
        assert message == "--deterministic needs the triton attention backend, not sdpa"


class TestBothDirections:
    """A model whose prompts are read in both directions has torch's attention or none."""

    @pytest.fixture
    def model(self, golden_models: Path) -> ModelConfig:
        return read_model_config(golden_models / "glm1_base")

    def test_auto(self, model: ModelConfig) -> None:
        ops = make(model)
        assert isinstance(ops, ElementwiseTritonOps)
        assert isinstance(ops.attention, SdpaAttention)

    @pytest.mark.parametrize("name", ["triton", "xformers"])
    def test_others_say_why_not(self, model: ModelConfig, name: str) -> None:
        message = refusal(model, attention_backend=name)
        assert message.startswith(f"--attention-backend {name} cannot be used here: this model")
        assert "in both directions" in message

    def test_not_deterministic(self, model: ModelConfig) -> None:
        message = refusal(model, deterministic=True)
        assert message.startswith("--deterministic cannot be had here: this model reads")


def test_a_prefix_is_sdpas(golden_models: Path) -> None:
    prefix = str(golden_models / "glm2_ptuning")
    model = read_model_config(golden_models / "glm2_base", None, prefix)
    assert isinstance(make(model).attention, SdpaAttention)
    assert "only sdpa can have a --ptuning-checkpoint" in refusal(model, attention_backend="triton")


class TestCacheDType:
    def test_float8_needs_a_chip_that_has_it(self, model: ModelConfig) -> None:
        ampere = GPU._replace(chip="sm_80", capability=(8, 0))
        assert "int8 takes as little memory" in refusal(model, ampere, kv_cache_dtype="fp8")
        amd = GPU._replace(chip="gfx942", capability=None)
        assert "gfx942 does not compute" in refusal(model, amd, kv_cache_dtype="fp8")
        message = refusal(model, kv_cache_dtype="fp8", attention_backend="sdpa")
        assert "only the triton attention backend has it" in message

    def test_small_numbers_take_half_the_memory(self, model: ModelConfig) -> None:
        exact = make(model).attention.token_bytes(128)
        for kind in ("int8", "fp8"):
            assert make(model, kv_cache_dtype=kind).attention.token_bytes(128) / exact < 0.52
