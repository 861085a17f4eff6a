"""Steps of few rows by five kernels a layer, on an emulated GPU: the same numbers as operation by
operation, and for which models and steps there are such kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.interpreter import InterpretedFunction

from glmserve.config import RunnerConfig
from glmserve.contract.shard import Shard, Stage
from glmserve.contract.step import SamplingInput, ScheduledSequence, ScoreInput, StepInput
from glmserve.model_config import read_model_config
from glmserve.models.few_rows import are_fusable
from glmserve.models.glm import Glm
from glmserve.ops.gpu.select_ops import make_ops
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.runner.gpu_runner import GpuRunner
from support import emulated_gpu
from support.decoding import Decoding, run_step
from support.exhaustive import exhaustive
from support.golden import read_greedy

MODEL = "glm2_bin_sharded"
LAYERS = 3
LAYER = [
    "_norm_matmul_rope",
    "_paged_decode",
    "_matmul_add",
    "_norm_matmul_silu",
    "_matmul_add",
]
ASK = SamplingInput(top_logprobs=4)
VIEWS = ("view", "slice", "select", "detach", "alias", "empty", "_unsafe", "as_strided", "flatten")


class Launches(TorchDispatchMode):
    """Names of what would be launched: our kernels, and torch's operations that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not name.startswith((*VIEWS, "lift", "fill_")):  # the emulation fills what is empty
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def launches() -> Iterator[list[str]]:
    launch = InterpretedFunction.run
    noted = Launches()

    def note(self: Any, *args: Any, **options: Any) -> Any:
        noted.names.append(self.__name__)
        before = len(noted.names)
        launch(self, *args, **options)
        del noted.names[before:]  # of torch within the interpreter

    InterpretedFunction.run = note
    try:
        with noted:
            yield noted.names
    finally:
        InterpretedFunction.run = launch


def table(block: int) -> bytes:
    return np.array([block], dtype=np.int32).tobytes()


def decode(request_id: int, token: int, start: int) -> ScheduledSequence:
    return ScheduledSequence(request_id, [token], start, table(request_id), ASK)


def model_of(runner: GpuRunner) -> Glm[Any, Any]:
    assert isinstance(runner._model, Glm)
    return runner._model


@pytest.fixture(scope="module")
def runner(golden_models: Path) -> GpuRunner:
    return emulated_gpu.load(golden_models / MODEL)


def test_a_layer_of_decodes_is_five_kernels(runner: GpuRunner) -> None:
    step = StepInput(0, [decode(i, 7 + i, 0) for i in range(2)])
    with launches() as names:
        run_step(runner, step)
    first = names.index(LAYER[0])
    last = first + LAYERS * len(LAYER)
    of_layers = [name for name in names[first:] if name in LAYER]
    assert of_layers == LAYER * LAYERS
    # In the last layer only the output rows are computed further, of the stream and its squares.
    others = [name for name in names[first : last + 2] if name not in LAYER]
    assert others == ["index", "index"]


@pytest.mark.parametrize("name", [MODEL, exhaustive("glm2_int8"), exhaustive("glm2_int4")])
def test_the_same_numbers_as_operation_by_operation(
    golden_models: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt, then a decode behind it beside another prompt: what is in the cache is read."""

    def answers() -> list[float]:
        first = ScheduledSequence(0, [5, 9], 0, table(0), ASK)
        second = ScheduledSequence(2, [22, 3, 17], 0, table(2), ASK)
        steps = [[first], [decode(0, 12, 2), second]]
        found: list[float] = []
        for number, sequences in enumerate(steps):
            output = run_step(runner, StepInput(number, sequences))
            for item in output.logprobs:
                if item is not None:
                    found += [*item.top_ids, *item.top_logprobs]
        return found

    runner = emulated_gpu.load(golden_models / name)
    with launches() as names:
        fused = answers()
    assert "_norm_matmul_silu" in names
    monkeypatch.setattr(model_of(runner), "fusable", False)
    with launches() as names:
        apart = answers()
    assert not {"_norm_matmul_silu", "_matmul_add", "_norm_matmul_rope"} & set(names)
    np.testing.assert_allclose(fused, apart, rtol=0, atol=2e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name",
    [
        "glm2_base",
        "glm2_mha",
        "glm2_no_qkv_bias",
        "glm2_32k_interp",
        "glm4_base",
        "glm2_int8",
        "glm2_int4",
    ],
)
@pytest.mark.parametrize("options", [{}, {"kv_cache_dtype": "int8"}], ids=str)
def test_greedy_texts_of_the_originals(
    golden_models: Path, name: str, options: dict[str, Any]
) -> None:
    prompts, want = read_greedy(golden_models / name)
    runner = emulated_gpu.load(golden_models / name, kv_cache_tokens=512, **options)
    assert model_of(runner).fusable
    found = Decoding(runner, prompts[:3], 5).outputs(4, chunk=5)
    if not options:  # an int8 cache may change a token
        assert found == [tokens[:4] for tokens in want[:3]]


@pytest.mark.parametrize(
    "change",
    [
        {"residual_post_norm": True},
        {"sandwich_norms": True},
        {"norm": "layernorm"},
        {"gated_ffn": False},
        {"shard": Shard(0, 2)},
        {"stage": Stage(0, 2)},
    ],
    ids=str,
)
def test_models_without_such_kernels(runner: GpuRunner, change: dict[str, Any]) -> None:
    model = model_of(runner)
    assert are_fusable(model.config, model.layers, model.ops)
    other = dataclasses.replace(model.config, **change)
    assert not are_fusable(other, model.layers, model.ops)


def test_weights_that_the_kernels_cannot_read_have_none(runner: GpuRunner) -> None:
    """One in one layer is enough: codes in another layout, because 48 is no multiple of 32."""
    model = model_of(runner)
    codes = QuantizedWeight(torch.zeros(64, 48, dtype=torch.int8), torch.ones(64, 1), 8)
    packed = model.ops.pack_linear(codes)
    qkv = dataclasses.replace(model.layers[0].qkv, weight=packed)
    layers = [dataclasses.replace(model.layers[0], qkv=qkv), *model.layers[1:]]
    assert not are_fusable(model.config, layers, model.ops)


def test_deterministic_operations_have_none(golden_models: Path) -> None:
    config = RunnerConfig(checkpoint=str(golden_models / MODEL), device="cuda", deterministic=True)
    model = read_model_config(golden_models / MODEL)
    assert make_ops(config, model, torch.float32, 16, emulated_gpu.GPU).few_rows is None


def test_longer_steps_have_none(runner: GpuRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_of(runner).ops.few_rows, "most_rows", 1)
    for rows, are_few in ((1, True), (2, False)):
        with launches() as names:
            run_step(runner, StepInput(0, [decode(i, 7, 0) for i in range(rows)]))
        assert ("_matmul_add" in names) == are_few
        assert ("_silu_and_mul" in names) != are_few


def test_a_scored_prompt_has_more_output_rows_than_tokens(
    runner: GpuRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = ScheduledSequence(0, [5, 9, 3, 8], 0, table(0), ASK, ScoreInput([9, 3, 8], 1))
    for most, are_few in ((4, False), (5, True)):
        monkeypatch.setattr(model_of(runner).ops.few_rows, "most_rows", most)
        with launches() as names:
            run_step(runner, StepInput(0, [prompt]))
        assert ("_matmul_add" in names) == are_few


def test_the_first_sums_of_squares_are_computed_alike_for_any_number_of_rows(
    runner: GpuRunner,
) -> None:
    """torch's order of a sum depends on the number of rows."""

    class Sums(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.shapes: set[torch.Size] = set()

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func.overloadpacket is torch.ops.aten.sum:
                self.shapes.add(args[0].shape)
            return func(*args, **(kwargs or {}))

    few_rows = model_of(runner).ops.few_rows
    assert few_rows is not None
    hidden = torch.randn(64, 48)
    with Sums() as sums:
        found = [few_rows.begin(hidden[:rows]).squares for rows in (1, 17, 64)]
    assert len(sums.shapes) == 1
    expected = hidden.double().square().sum(1, keepdim=True)
    for squares in found:
        torch.testing.assert_close(squares.double(), expected[: len(squares)], rtol=1e-6, atol=0)
