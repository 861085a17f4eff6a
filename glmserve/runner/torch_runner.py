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
from glmserve.runner.logprobs import LogprobReader
from glmserve.runner.restrict import restrict
from glmserve.runner.sampler import sample
from glmserve.step import (
    Logprobs,
    MaskSource,
    RunnerInfo,
    RunnerLimits,
    SamplingInput,
    StepInput,
    StepOutput,
    no_masks,
)


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
        self._logprob_reader = LogprobReader(vocab_limit, never_sampled)

    @torch.inference_mode()
    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        """Write K/V of all scheduled tokens to the cache and sample where asked."""
        if self._model is None:
            raise RuntimeError("the runner is closed")
        model = self._model
        batch = build_batch(step, self.info.limits.block_size)
        hidden = model.forward(batch, self._caches)  # [O, H]
        sampling = [s.sampling for s in step.sequences if s.sampling is not None]
        token_ids: list[int] = []
        logprobs: list[Logprobs | None] = []
        if sampling:
            logits = model.logits(hidden[: len(sampling)])
            token_ids, logprobs = self._choose(logits, sampling, masks)
        scores, pooled = self._read_prompts(model, step, hidden[len(sampling) :])
        return StepOutput(step.step_id, token_ids, logprobs, scores, pooled)

    def _choose(
        self, logits: Tensor, sampling: list[SamplingInput], masks: MaskSource
    ) -> tuple[list[int], list[Logprobs | None]]:
        """A token for each row of [S, V], and log-probabilities if any row asks for them."""
        asking = {i: s.top_logprobs for i, s in enumerate(sampling) if s.top_logprobs is not None}
        log_probs = torch.log_softmax(logits[list(asking)], dim=-1) if asking else None
        if len(self._never_sampled):
            logits.index_fill_(1, self._never_sampled, float("-inf"))
        restrict(logits, sampling, masks)
        token_ids = sample(logits, sampling, self._ops, self._vocab_limit)
        if log_probs is None:
            return token_ids, []
        chosen = [token_ids[i] for i in asking]
        read = self._logprob_reader.read(log_probs, chosen, list(asking.values()))
        by_row = dict(zip(asking, read, strict=True))
        return token_ids, [by_row.get(i) for i in range(len(sampling))]

    def _read_prompts(
        self, model: Model, step: StepInput, hidden: Tensor
    ) -> tuple[list[list[Logprobs]], list[bytes]]:
        """What the step wants to know of prompts, from the last hidden states of their tokens."""
        scores, pooled, start = [], [], 0
        for sequence in step.sequences:
            if not sequence.is_read_whole:
                continue
            rows = hidden[start : start + len(sequence.token_ids)]
            start += len(rows)
            if sequence.score is not None:
                scores.append(self._logprob_reader.score(rows, sequence.score, model.logits))
            if sequence.pool:
                pooled.append(rows.float().sum(dim=0).cpu().numpy().tobytes())
        return scores, pooled

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
