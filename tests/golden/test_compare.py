"""A device beside a golden: sound ones are alike, and a planted fault is found where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glmserve.config import RunnerConfig, report_nothing
from glmserve.devices.cpu import CpuDevice
from glmserve.golden.device_tensors import inspected_tensors, log_probabilities
from glmserve.golden.difference import Difference, differences, first_beyond
from glmserve.golden.dump import random_ids
from glmserve.golden.picture import write_picture
from glmserve.golden.reference import Reference
from glmserve.golden.report import Comparison, lines
from glmserve.model_config import read_model_config
from glmserve.ops.cpu.torch_ops import TorchCpuOps
from glmserve.runner import tensor_names as names
from glmserve.runner.torch_runner import TorchRunner
from support.golden import FIRST_GENERATION, NAMES
from support.native import native_library

TOLERANCE = 1e-4


def load(folder: Path, **options: Any) -> TorchRunner:
    options = {"dtype": "float32", "kv_cache_tokens": 1024, "threads": 1, **options}
    config = RunnerConfig(checkpoint=str(folder), device="cpu", **options)
    return CpuDevice().create_runner(config, report_nothing)


def right_tensors(folder: Path, ids: list[int]) -> dict[str, Tensor]:
    config = read_model_config(folder)
    return Reference(config, folder, torch.float64, report_nothing).tensors(ids)


@pytest.mark.parametrize("name", [*NAMES, *FIRST_GENERATION])
@pytest.mark.parametrize("kernels", ["native", "torch"])
def test_a_sound_device_is_alike(golden_models: Path, name: str, kernels: str) -> None:
    if kernels == "native":
        native_library()
    folder = golden_models / name
    config = read_model_config(folder)
    ids = random_ids(config, 40)
    runner, right = load(folder, cpu_kernels=kernels), right_tensors(folder, ids)
    found = differences(inspected_tensors(runner, ids), right, config.num_layers)
    # The device has no rotated Q, K, V to report.
    per_layer = len(names.LAYER_TENSORS) - 3 - (0 if config.sandwich_norms else 2)
    assert len(found) == config.num_layers * per_layer + 3 + config.final_norm
    assert first_beyond(found, TOLERANCE) is None
    after = torch.tensor(ids[1:])[:, None]
    want = right[names.LOGITS][:-1].log_softmax(-1).gather(1, after)[:, 0].numpy()
    np.testing.assert_allclose(log_probabilities(runner, ids).numpy(), want, atol=1e-4)


def half_split(ops: Any) -> None:
    """Rotate pairs (i, i + R/2) in place of (2i, 2i + 1)."""
    original = ops.rope

    def rope(heads: Tensor, rows: Tensor) -> None:
        rotary = heads[..., : 2 * rows.shape[-1]]
        paired = torch.stack(rotary.chunk(2, dim=-1), dim=-1).flatten(-2)
        original(paired, rows)
        rotary.copy_(torch.cat((paired[..., 0::2], paired[..., 1::2]), dim=-1))

    ops.rope = rope


def one_slot_further(ops: Any) -> None:
    """Write K and V one slot behind where they are read; the last slot wraps around."""
    original = ops.attention.write

    def write(key_values: Tensor, cache: Any, plan: Any) -> None:
        original(key_values.roll(1, dims=0), cache, plan)

    ops.attention.write = write


def swapped_halves(ops: Any) -> None:
    original = ops.silu_and_mul
    ops.silu_and_mul = lambda x: original(torch.cat(x.chunk(2, dim=-1)[::-1], dim=-1))


def no_bias(ops: Any) -> None:
    original = ops.linear
    ops.linear = lambda x, weight, bias=None: original(x, weight, None)


def next_head(ops: Any) -> None:
    """Queries read the key/value head beside theirs."""
    original = ops.attention.run

    def run(qkv: Tensor, cache: Any, plan: Any) -> Tensor:
        queries = qkv.shape[1] - 2 * ops.attention.num_kv_heads
        turned = qkv.clone()
        turned[:, :queries] = qkv[:, :queries].roll(queries // 2, dims=1)
        return original(turned, cache, plan)

    ops.attention.run = run


def wrong_epsilon(ops: Any) -> None:
    original = ops.rms_norm
    ops.rms_norm = lambda x, weight, eps: original(x, weight, 0.1)
    ops.add_rms_norm = lambda x, residual, weight, eps: original(residual.add_(x), weight, 0.1)


@pytest.mark.parametrize(
    ("plant", "first"),
    [
        (half_split, "layers.0.attention"),
        (one_slot_further, "layers.0.attention"),
        (next_head, "layers.0.attention"),
        (swapped_halves, "layers.0.activation"),
        (no_bias, "layers.0.qkv"),
        (wrong_epsilon, "layers.0.input_norm"),
    ],
)
def test_a_planted_fault_is_found_where_it_is(
    golden_models: Path, plant: Callable[[Any], None], first: str
) -> None:
    folder = golden_models / "glm2_base"
    ids = random_ids(read_model_config(folder), 40)
    runner = load(folder, cpu_kernels="torch")
    assert isinstance(runner._ops, TorchCpuOps)
    plant(runner._ops)
    found = differences(inspected_tensors(runner, ids), right_tensors(folder, ids), 3)
    beyond = first_beyond(found, TOLERANCE)
    assert beyond is not None
    assert beyond.name == first


def test_a_wrong_weight_is_found_in_its_layer(golden_models: Path) -> None:
    folder = golden_models / "glm4_base"
    ids = random_ids(read_model_config(folder), 20)
    runner = load(folder, cpu_kernels="torch")
    assert runner._model is not None
    with torch.inference_mode():
        runner._model.layers[2].post_norm.weight[5] += 0.5  # type: ignore[attr-defined]
    found = differences(inspected_tensors(runner, ids), right_tensors(folder, ids), 4)
    beyond = first_beyond(found, TOLERANCE)
    assert beyond is not None
    assert beyond.name == "layers.2.post_norm"


class TestDifference:
    def test_rows_count_one_by_one(self) -> None:
        right = {"embedding": torch.ones(3, 4)}
        own = {"embedding": torch.ones(3, 4)}
        own["embedding"][1, 0] = 3.0
        (found,) = differences(own, right, 0)
        assert found.worst_row == 1
        assert found.relative_error == pytest.approx(1.0)
        assert found.cosine == pytest.approx(6 / (2 * 12**0.5))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_is_not_finite_is_beyond_everything(self, value: float) -> None:
        own = {"logits": torch.tensor([[1.0, 2.0], [value, 1.0]])}
        found = differences(own, {"logits": torch.ones(2, 2)}, 0)
        assert first_beyond(found, 1e9) == found[0]
        assert found[0].worst_row == 1

    def test_another_shape(self) -> None:
        found = differences({"logits": torch.ones(2, 3)}, {"logits": torch.ones(2, 4)}, 0)
        assert first_beyond(found, 1e9) is not None

    def test_rows_of_zeros(self) -> None:
        found = differences({"logits": torch.zeros(1, 3)}, {"logits": torch.zeros(1, 3)}, 0)
        assert found[0].relative_error == 0


FOUND = [
    Difference("embedding", 0.0, 1.0, 0),
    Difference("layers.0.qkv", 1e-6, 1.0, 3),
    Difference("layers.0.attention", 0.9, 0.4, 7),
    Difference("logits", 1.1, 0.1, 2),
]


class TestReport:
    def test_the_first_tensor_beyond(self) -> None:
        said = list(lines(Comparison(FOUND, 3.0, TOLERANCE), every_tensor=False))
        assert "layers.0.qkv" not in "".join(said[:-1])
        assert said[-1] == (
            "different: layers.0.attention is the first tensor beyond the tolerance of 0.0001, at "
            "token 7, after layers.0.qkv, which is right"
        )
        everything = list(lines(Comparison(FOUND, 3.0, TOLERANCE), every_tensor=True))
        assert len(everything) == len(said) + 1

    def test_a_device_that_reports_nothing(self) -> None:
        alike, different = (Comparison([], error, TOLERANCE) for error in (1e-5, 0.5))
        assert alike.is_alike
        assert not different.is_alike
        assert "log-probabilities are more than" in list(lines(different, every_tensor=False))[-1]

    def test_picture(self, tmp_path: Path) -> None:
        path = tmp_path / "errors.svg"
        write_picture(path, FOUND, 1, TOLERANCE, "a <device>")
        text = path.read_text()
        assert text.startswith("<svg")
        assert "a &lt;device&gt;" in text
        assert text.count("<title>") == len(FOUND)
