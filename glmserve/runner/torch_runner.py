"""The Runner of every device that torch can drive eagerly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glmserve.config import LoadProgress, RunnerConfig
from glmserve.model_config import ModelConfig
from glmserve.models.dummy import dummy_weights
from glmserve.models.parameters import Parameters, count_parameters
from glmserve.models.registry import Model, build_model
from glmserve.models.weights import load_weights
from glmserve.ops.base import Ops
from glmserve.runner.batch import build_batch
from glmserve.runner.dtypes import dtype_name
from glmserve.runner.limits import kv_token_bytes
from glmserve.runner.sampler import sample
from glmserve.step import RunnerInfo, RunnerLimits, StepInput, StepOutput


@dataclass(frozen=True)
class TorchTarget:
    """What a device contributes to a TorchRunner."""

    device: torch.device
    description: str
    dtype: torch.dtype
    ops: Ops


class TorchRunner:
    """Runs one model over its paged KV cache."""

    def __init__(
        self,
        model: Model,
        caches: list[Tensor],
        ops: Ops,
        vocab_limit: int | None,
        never_sampled: Tensor,
        info: RunnerInfo,
    ) -> None:
        self.info = info
        self._model: Model | None = model
        self._caches = caches
        self._ops = ops
        self._vocab_limit = vocab_limit
        self._never_sampled = never_sampled  # int64 ids

    @torch.inference_mode()
    def execute(self, step: StepInput) -> StepOutput:
        """Write K/V of all scheduled tokens to the cache and sample where asked."""
        if self._model is None:
            raise RuntimeError("the runner is closed")
        sampling = [s.sampling for s in step.sequences if s.sampling is not None]
        batch = build_batch(step, self.info.limits.block_size)
        logits = self._model.forward(batch, self._caches)
        if len(self._never_sampled):
            logits.index_fill_(1, self._never_sampled, float("-inf"))
        return StepOutput(step.step_id, sample(logits, sampling, self._ops, self._vocab_limit))

    def close(self) -> None:
        """Drop weights and cache."""
        self._model = None
        self._caches = []


def load_torch_runner(
    config: RunnerConfig,
    model_config: ModelConfig,
    target: TorchTarget,
    limits: RunnerLimits,
    progress: LoadProgress,
) -> TorchRunner:
    """Load or make up the weights, build the model, allocate the KV cache.

    Raises:
        CheckpointError: the weights cannot be read or do not fit config.json.
    """
    with torch.inference_mode():
        parameters = _parameters(config, model_config, target, progress)
        weight_bytes = sum(p.nbytes for p in parameters.values())
        model = build_model(model_config, parameters, target.ops, limits.max_context)
        caches = target.ops.attention.allocate(
            model_config.num_layers, limits.token_capacity, model_config.head_dim
        )
    info = RunnerInfo(
        limits=limits,
        device=target.description,
        dtype=dtype_name(target.dtype),
        num_parameters=count_parameters(model_config),
        weight_bytes=weight_bytes,
        kv_cache_bytes=limits.token_capacity * kv_token_bytes(model_config, target.dtype.itemsize),
    )
    never_sampled = torch.tensor(config.never_sampled, dtype=torch.int64, device=target.device)
    return TorchRunner(model, caches, target.ops, config.vocab_limit, never_sampled, info)


def _parameters(
    config: RunnerConfig, model_config: ModelConfig, target: TorchTarget, progress: LoadProgress
) -> Parameters:
    if config.load_format == "auto":
        return load_weights(
            model_config, Path(config.checkpoint), target.dtype, target.device, progress
        )
    parameters = dummy_weights(model_config, target.dtype, target.device, config.seed)
    total = sum(p.nbytes for p in parameters.values())
    progress(total, total)
    return parameters
