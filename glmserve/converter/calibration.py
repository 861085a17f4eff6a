"""Finds the ranges of the inputs of linear modules, by computing a text with the model.

The whole model is in memory for that, in bfloat16 if it is large and in float32 otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glmserve.config import LoadProgress, ReportProgress, RunnerConfig
from glmserve.contract.step import ScheduledSequence, StepInput
from glmserve.model_config import ModelConfig
from glmserve.models.packing import pack_parameters
from glmserve.models.registry import build_model
from glmserve.models.weights import load_weights
from glmserve.ops.attention.kv_store import ExactStore
from glmserve.ops.attention.sdpa import SdpaAttention, SdpaPlan
from glmserve.ops.base import Ops
from glmserve.ops.inputs import upload
from glmserve.ops.linear.packed import PackedWeight
from glmserve.ops.linear.static import LinearWeight
from glmserve.runner.batch import build_batch
from glmserve.runner.dtypes import host_dtype

_HOST = torch.device("cpu")
_WINDOW = 512
"""Tokens that are computed together, without those before them."""


class Range(NamedTuple):
    """The smallest and the largest number of a module's input; 0 is within."""

    low: float
    high: float

    def joined(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


class ObservingOps(Ops[Tensor, SdpaPlan]):
    """Plain operations that keep the range of the inputs of each linear weight."""

    def __init__(self, attention: SdpaAttention[Tensor]) -> None:
        super().__init__(attention)
        self._packed: list[PackedWeight] = []
        self._ranges: list[Range] = []

    def pack_linear(self, weight: LinearWeight) -> PackedWeight:
        self._packed.append(weight)
        self._ranges.append(Range(0.0, 0.0))
        return weight

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
        index = next(i for i, packed in enumerate(self._packed) if packed is weight)
        found = Range(x.min().item(), x.max().item())
        self._ranges[index] = self._ranges[index].joined(found)
        return super().linear(x, weight, bias)

    def range_of(self, weight: PackedWeight) -> Range:
        """The range of the inputs so far."""
        return next(
            r for packed, r in zip(self._packed, self._ranges, strict=True) if packed is weight
        )


@torch.inference_mode()
def input_ranges(
    model_config: ModelConfig,
    checkpoint: Path,
    token_ids: Sequence[int],
    progress: ReportProgress,
) -> dict[str, Range]:
    """The ranges by canonical name of the module: "layers.0.qkv".

    Args:
        token_ids: of the text.
        progress: called with tokens done and in all.

    Raises:
        CheckpointError: the weights cannot be read or do not fit config.json.
    """
    dtype = host_dtype(RunnerConfig(checkpoint=str(checkpoint)), model_config, fast_bfloat16=True)
    attention = SdpaAttention(model_config.num_kv_heads, dtype, _HOST, _WINDOW, ExactStore(dtype))
    ops = ObservingOps(attention)
    stored = load_weights(model_config, checkpoint, dtype, _HOST, progress)
    parameters = pack_parameters(stored, model_config, ops, None)
    weights = {name: weight for name, weight in parameters.items() if name.endswith(".weight")}
    model = build_model(model_config, parameters, ops, _WINDOW)
    caches = attention.allocate(model_config.num_layers, 1, model_config.head_dim)
    for start in range(0, len(token_ids), _WINDOW):
        ids = list(token_ids[start : start + _WINDOW])
        step = StepInput(0, [ScheduledSequence(0, ids, 0, np.int32(0).tobytes(), None)])
        inputs = upload(build_batch(step, _WINDOW), ops, caches[0])
        model.forward(replace(inputs, output_rows=None), caches)
        progress(LoadProgress("calibration", start + len(ids), len(token_ids)))
    return {
        f"layers.{i}.{module}": ops.range_of(weights[f"layers.{i}.{module}.weight"])
        for i in range(model_config.num_layers)
        for module in ("qkv", "dense", "gate_up", "down")
    }
